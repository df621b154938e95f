"""What the GPU backends share: one stream per lane, staging memory and CUDA graphs."""

"""What original preprocessing computes, as torch modules in front of the model: one module a modality."""

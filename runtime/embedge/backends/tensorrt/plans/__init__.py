"""TensorRT plans: what each holds for, the cache they are kept in, who may bring others, and how they are built."""

"""Items that a gate can ask for, where the user brings none: one module a modality."""

"""Built-in items for the gate, for recipes without samples: one module per modality."""

"""Preprocessing inside the graph: torch modules before the model, one Python module per modality."""

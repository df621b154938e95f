"""Batches: rows, their layout and padding, and the shapes that they can have. Pure functions."""

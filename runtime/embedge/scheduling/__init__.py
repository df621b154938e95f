"""Admission and order: the fair queue, forming batches, the cost table."""

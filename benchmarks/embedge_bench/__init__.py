"""Benchmarks of embedge: load generators, targets to measure, and the report. Imports the runtime, never back."""

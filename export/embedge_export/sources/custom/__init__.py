"""Custom towers: described in a recipe's tables, built from torch modules or ONNX files."""

from embedge_export.sources.custom.source import load

__all__ = ["load"]

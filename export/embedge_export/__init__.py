"""Export: a trained encoder becomes a proven engine bundle."""

from embedge_export.errors import ExportError, GateMiss

__all__ = ["ExportError", "GateMiss"]

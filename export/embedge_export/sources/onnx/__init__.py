"""Existing ONNX files, each with its tokenizer.json."""

from embedge_export.sources.onnx.source import fits, load

__all__ = ["fits", "load"]

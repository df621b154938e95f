"""sentence-transformers directories of any kind."""

from embedge_export.sources.sentence_transformers.source import fits, load

__all__ = ["fits", "load"]

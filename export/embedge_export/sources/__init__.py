"""Sources: the forms a trained encoder can come in. Each turns one kind of file or directory into a `SourceModel`."""

from embedge_export.sources.registry import SourceModel, kind_of, load

__all__ = ["SourceModel", "kind_of", "load"]

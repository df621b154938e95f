"""Model families of transformers: a module per `model_type`. A leading underscore marks code that families share."""

from embedge_export.sources.families._registry import FAMILIES, fits, is_cross_encoder, load

__all__ = ["FAMILIES", "fits", "is_cross_encoder", "load"]

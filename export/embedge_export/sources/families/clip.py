"""CLIP (Radford et al., 2021, arXiv:2103.00020) and the multilingual MetaCLIP 2 (Chuang et al., 2025,
arXiv:2507.22062): a text tower and an image tower with one space.

Texts need no mask: attention is causal, and the vector is that of the first end token.
"""

from __future__ import annotations

from pathlib import Path

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.families._dual import text_and_image

__all__ = ["load"]


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of CLIPModel or MetaClip2Model and its processor. Raises ExportError."""
    model, processor = pretrained(path, "AutoModel"), processor_of(path)
    scale = model.logit_scale.exp().item()
    return text_and_image(path, recipe, model, processor, dim=model.config.projection_dim, scale=scale)

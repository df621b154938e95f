"""ALIGN (Jia et al., 2021, arXiv:2102.05918): BERT for texts and EfficientNet for images, in one space."""

from __future__ import annotations

from pathlib import Path

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.families._dual import text_and_image

__all__ = ["load"]

_TOKENS = 64  # AlignProcessor truncates here


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of AlignModel and its processor. Raises ExportError."""
    model, processor = pretrained(path, "AlignModel"), processor_of(path)
    limit = min(_TOKENS, model.config.text_config.max_position_embeddings)
    return text_and_image(
        path,
        recipe,
        model,
        processor,
        dim=model.config.projection_dim,
        scale=1 / model.temperature.item(),
        masked=True,
        limit=limit,
    )

"""SigLIP (Zhai et al., 2023, arXiv:2303.15343): a text tower and an image tower, trained with a sigmoid of each pair.

A text is always padded to the full length, and its vector is that of the last position, without a mask, as in training.
SigLIP's own tokenizer is a slow one; checkpoints of SigLIP 2 at fixed sizes come with a fast one.
"""

from __future__ import annotations

from pathlib import Path

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.families._dual import text_and_image

__all__ = ["load"]


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of SiglipModel and its processor. Raises ExportError."""
    model, processor = pretrained(path, "SiglipModel"), processor_of(path)
    return text_and_image(
        path,
        recipe,
        model,
        processor,
        dim=model.config.text_config.projection_size,
        scale=model.logit_scale.exp().item(),
        bias=model.logit_bias.item(),
        fixed_length=True,
    )

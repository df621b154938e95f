"""ViT (Dosovitskiy et al., 2020, arXiv:2010.11929) and DINOv2 (Oquab et al., 2023, arXiv:2304.07193), with registers or
without: an image's class token as its vector, and its patches' vectors, from one pass.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from embedge_export.recipe import Recipe
from embedge_export.sources.base import Model
from embedge_export.sources.families.common import pretrained, processor_of
from embedge_export.sources.families.readers import image_reader
from embedge_export.sources.families.states import one_tower
from embedge_export.sources.fronts.image import from_processor

__all__ = ["load"]


def load(path: Path, recipe: Recipe) -> Model:
    """Load a directory of ViTModel or Dinov2Model, or of a classifier on top, and its image processor.

    Raises ExportError.
    """
    model, processor = pretrained(path, "AutoModel"), processor_of(path, "AutoImageProcessor")
    prepare, front = from_processor(processor, name="pixels")
    first = 1 + getattr(model.config, "num_register_tokens", 0)

    def pool(states: Tensor) -> tuple[Tensor, Tensor]:
        return states[:, 0], states[:, first:]

    read = image_reader(processor)
    return one_tower(
        path, recipe, "image", model=model, prepare=prepare, front=front, read=read, pool=pool, pieces="patches"
    )

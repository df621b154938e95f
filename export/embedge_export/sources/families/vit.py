"""ViT (Dosovitskiy et al., 2020, arXiv:2010.11929) and DINOv2 (Oquab et al., 2023, arXiv:2304.07193), with or
without registers: the class token as an image's vector, the patches' vectors, and a classifier's logits, from one pass.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.families._originals import image_reader
from embedge_export.sources.families._single import ClassifierHead, one_tower
from embedge_export.sources.preprocess.image import from_processor

__all__ = ["load"]

_CLASSIFIER = "ForImageClassification"


class _Logits(nn.Module):
    """Applies the head: ViT's takes the class token, DINOv2's also the mean of the patches."""

    def __init__(self, classifier: Any, first: int) -> None:
        super().__init__()
        self.layer, self.patches = classifier.classifier, classifier.config.model_type != "vit"
        self.first = first

    def forward(self, states: Tensor) -> Tensor:
        pooled = states[:, 0]
        if self.patches:
            pooled = torch.cat([pooled, states[:, self.first :].mean(dim=1)], dim=1)
        logits: Tensor = self.layer(pooled)
        return logits


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of ViTModel or Dinov2Model, or of a classifier on it, and its image processor.

    Raises ExportError.
    """
    saved = PretrainedConfig.get_config_dict(path)[0].get("architectures") or ()
    classifies = any(name.endswith(_CLASSIFIER) for name in saved)
    classifier = pretrained(path, f"AutoModel{_CLASSIFIER}") if classifies else None
    # A classifier has no pooler: it was trained without one.
    model = pretrained(path, "AutoModel") if classifier is None else classifier.base_model
    processor = processor_of(path, "AutoImageProcessor")
    prepare, front = from_processor(processor, name="pixels")
    first = 1 + getattr(model.config, "num_register_tokens", 0)

    def pool(states: Tensor) -> tuple[Tensor, Tensor]:
        return states[:, 0], states[:, first:]

    return one_tower(
        path,
        recipe,
        "image",
        model=model,
        prepare=prepare,
        front=front,
        read=image_reader(processor),
        pool=pool,
        pieces="patches",
        head=None if classifier is None else ClassifierHead(_Logits(classifier, first), classifier),
    )

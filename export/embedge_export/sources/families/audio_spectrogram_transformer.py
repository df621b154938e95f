"""Audio Spectrogram Transformer (Gong et al., 2021, arXiv:2104.01778): the mean of its two class tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.families._audio import VectorTower, one_tower
from embedge_export.sources.families._common import pretrained, processor_of
from embedge_export.sources.preprocess.extractors import from_extractor

__all__ = ["load"]


class _AstAudio(VectorTower):
    def __init__(self, recipe: Recipe, front: nn.Module, model: Any) -> None:
        super().__init__(recipe)
        self.front, self.model = front, model

    def forward(self, samples: Tensor, samples_length: Tensor) -> Tensor:
        return self.finish(self.model(self.front(samples, samples_length)).pooler_output)


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of ASTModel, or of a classifier on it, and its feature extractor. Raises ExportError."""
    model, extractor = pretrained(path, "ASTModel"), processor_of(path, "AutoFeatureExtractor")
    prepare, front = from_extractor(extractor)
    return one_tower(
        path,
        recipe,
        kind="ast",
        model=model,
        tower=_AstAudio(recipe, front, model),
        prepare=prepare,
        extractor=extractor,
        encode=lambda features: model(**features).pooler_output,
        dim=model.config.hidden_size,
    )

"""Whisper's encoder (Radford et al., 2022, arXiv:2212.04356): the mean of its states over the whole 30 seconds.

WhisperForAudioClassification pools the same way. The model has no mask, so silence counts.
"""

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


class _WhisperAudio(VectorTower):
    def __init__(self, recipe: Recipe, front: nn.Module, encoder: Any) -> None:
        super().__init__(recipe)
        self.front, self.encoder = front, encoder

    def forward(self, samples: Tensor) -> Tensor:
        return self.finish(self.encoder(self.front(samples)).last_hidden_state.mean(dim=1))


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of WhisperModel, or of a head on it, and its feature extractor. Raises ExportError."""
    encoder, extractor = pretrained(path, "WhisperModel").encoder, processor_of(path, "AutoFeatureExtractor")
    prepare, front = from_extractor(extractor)
    return one_tower(
        path,
        recipe,
        kind="whisper",
        model=encoder,
        tower=_WhisperAudio(recipe, front, encoder),
        prepare=prepare,
        extractor=extractor,
        encode=lambda features: encoder(features["input_features"]).last_hidden_state.mean(dim=1),
        dim=encoder.config.d_model,
    )

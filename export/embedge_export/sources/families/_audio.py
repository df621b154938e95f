"""Shared by families of one audio tower: clips in, one vector out, through the original's own extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import AudioPrepare
from embedge.content import Audio
from embedge_export.model import SourceModel, SpaceSource, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources import weights
from embedge_export.sources.families._common import unit
from embedge_export.sources.originals import clip
from embedge_export.sources.torch.graph import TorchGraph, tools

__all__ = ["VectorTower", "facts", "one_tower", "original"]


class VectorTower(nn.Module):
    """Base of the towers' modules. Normalizes vectors if the recipe asks for it."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.normalized = bool(recipe.normalize)

    def finish(self, vectors: Tensor) -> Tensor:
        """Return the tower's vectors, from `vectors` (batch, dim)."""
        return unit(vectors) if self.normalized else vectors


def original(extractor: Any, encode: Callable[[Mapping[str, Tensor]], Tensor]) -> Callable[[Audio], dict[str, Any]]:
    """Return the original for one clip: the extractor, then `encode`, which returns (1, dim)."""

    def hear(content: Audio) -> dict[str, Any]:
        samples = clip(content, extractor.sampling_rate)
        features = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        with torch.no_grad():
            return {"dense": encode(features)[0].numpy()}

    return hear


def facts(extractor: Any) -> dict[str, Any]:
    """Return an extractor's settings: the same weights behind another extractor make another space."""
    settings = extractor.to_dict()
    plain = (str, int, float, type(None))
    return {name: settings[name] for name in sorted(settings) if isinstance(settings[name], plain)}


def one_tower(
    path: Path,
    recipe: Recipe,
    *,
    kind: str,
    model: nn.Module,
    tower: VectorTower,
    prepare: AudioPrepare,
    extractor: Any,
    encode: Callable[[Mapping[str, Tensor]], Tensor],
    dim: int,
) -> SourceModel:
    """Return a model with one tower, `audio`, in its own space. `encode` returns (1, dim)."""
    output = DenseOutput(
        tensor="vector", space=kind, dim=dim, normalized=tower.normalized, dims=recipe.of("audio").dims or ()
    )
    source = TowerSource(
        parts={"audio": Part(prepare=prepare)},
        graph=TorchGraph(tower, ("vector",)),
        outputs={"dense": output},
        original=original(extractor, lambda features: tower.finish(encode(features))),
    )
    definition = weights.definition(model, path, extractor=facts(extractor), normalized=tower.normalized)
    return SourceModel(
        kind=kind,
        towers={"audio": source},
        spaces={kind: SpaceSource(definition=definition, dim=dim)},
        hashes=weights.file_hashes(path),
        tools=tools("transformers", "torch", "onnxscript"),
    )

"""What families of one audio tower have in common: clips in, one vector out, by the original's own extractor."""

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
    """Base of the towers' modules: vectors leave it as they are, or scaled to length 1 where the recipe says so."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.normalized = bool(recipe.normalize)

    def finish(self, vectors: Tensor) -> Tensor:
        """Return the vectors as the tower gives them."""
        return unit(vectors) if self.normalized else vectors


def original(extractor: Any, encode: Callable[[Mapping[str, Tensor]], Tensor]) -> Callable[[Audio], dict[str, Any]]:
    """Return what hears one clip as the original does: its extractor, then `encode`, which gives (1, dim)."""

    def hear(content: Audio) -> dict[str, Any]:
        samples = clip(content, extractor.sampling_rate)
        features = extractor(samples, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        with torch.no_grad():
            return {"dense": encode(features)[0].numpy()}

    return hear


def facts(extractor: Any) -> dict[str, Any]:
    """Return an extractor's settings: two models of the same weights that hear otherwise have other spaces."""
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
    """Return the model of a tower `audio` in a space of its own."""
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

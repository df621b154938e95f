"""Towers of one part with a dense vector and optional vectors of pieces, and models made of such towers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput, Output
from embedge.bundle.part_specs import Prepare, TextPrepare, VideoPrepare
from embedge_export.model import Original, SourceModel, SpaceSource, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources import weights
from embedge_export.sources.preprocess.image import Normalizer, from_processor
from embedge_export.sources.torch.graph import TorchGraph, tools

__all__ = ["model_of", "tower", "video_input"]


def tower(
    recipe: Recipe,
    name: str,
    prepare: Prepare,
    module: nn.Module,
    original: Original,
    *,
    space: str,
    dim: int,
    normalized: bool,
    pieces: str | None = None,
) -> TowerSource:
    """Return a tower of one part.

    Args:
        recipe: Names dims.
        name: Name of the tower and of its part.
        prepare: The part's preparation.
        module: Returns (batch, dim): the output `dense`. With `pieces`, returns (batch, places, dim) as well.
        original: The tower's original.
        space: Space of the output `dense`.
        dim: Size of the vectors.
        normalized: Vectors have length 1.
        pieces: Name of the second output, in the space `{space}-{pieces}`.
    """
    common: dict[str, Any] = {"dim": dim, "normalized": normalized, "dims": recipe.of(name).dims or ()}
    outputs: dict[str, Output] = {"dense": DenseOutput(tensor="vector", space=space, **common)}
    if pieces is not None:
        outputs[pieces] = MultiVectorOutput(tensor=pieces, space=f"{space}-{pieces}", **common)
    graph = TorchGraph(module, tuple(output.tensors[0] for output in outputs.values()))
    return TowerSource(parts={name: Part(prepare=prepare)}, graph=graph, outputs=outputs, original=original)


def model_of(
    path: Path,
    model: Any,
    front: nn.Module,
    towers: Mapping[str, TowerSource],
    *,
    files: Mapping[str, bytes] | None = None,
    **settings: Any,
) -> SourceModel:
    """Return a model of these towers. `settings` holds scale and bias of the space of dense vectors."""
    return SourceModel(
        kind=model.config.model_type,
        towers=towers,
        spaces=dict(_spaces(path, nn.ModuleList([model, front]), towers, settings)),
        files=files or {},
        hashes=weights.file_hashes(path),
        tools=tools("transformers", "torch", "onnxscript"),
    )


def video_input(processor: Any, count: int) -> tuple[VideoPrepare, Normalizer]:
    """Return the preparation of `count` evenly spread frames of a video, and the module for their pixels."""
    image, front = from_processor(processor)
    return VideoPrepare(inputs={"frames": "pixels"}, image=image, frames=count), front


def _spaces(
    path: Path, module: nn.Module, towers: Mapping[str, TowerSource], settings: Mapping[str, Any]
) -> Iterator[tuple[str, SpaceSource]]:
    """Yield every space, defined by the weights and by the arithmetic on pixels."""
    prepares = {name: part.prepare for tower in towers.values() for name, part in tower.parts.items()}
    seen = {name: msgspec.to_builtins(each) for name, each in prepares.items() if not isinstance(each, TextPrepare)}
    definition = weights.definition(module, path, seen=seen)
    for each in towers.values():
        for name, output in each.outputs.items():
            if isinstance(output, DenseOutput):
                facts = {**definition, "normalized": output.normalized}
                yield output.space, SpaceSource(definition=facts, dim=output.dim, **settings)
            elif isinstance(output, MultiVectorOutput):
                facts = {**definition, "normalized": output.normalized, "output": name}
                yield output.space, SpaceSource(definition=facts, dim=output.dim, metric="max_sim")

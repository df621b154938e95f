"""Vector spaces of custom towers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from embedge.bundle.output_specs import Output, ScoresOutput
from embedge_export.model import SpaceSource
from embedge_export.recipe import Recipe, SpaceMetric, SpaceRecipe, TowerRecipe
from embedge_export.sources.custom.execution import ExecutionPath

__all__ = ["spaces_of"]

_METRICS: dict[str, SpaceMetric] = {
    "multi_vector": "max_sim",
    "sparse": "sparse_dot",
    "gaussian": "likelihood",
    "codes": "hamming",
}


def spaces_of(
    specs: Mapping[str, TowerRecipe], paths: Mapping[str, ExecutionPath], recipe: Recipe
) -> dict[str, SpaceSource]:
    """Return the spaces that outputs name. Every tower with an output in a space is part of its definition."""
    members: dict[str, list[tuple[Mapping[str, Any], Output]]] = {}
    for name, spec in specs.items():
        for output in spec.outputs.values():
            if not isinstance(output, ScoresOutput):
                members.setdefault(output.space, []).append((paths[name].definition, output))
    return {name: _space(outputs, recipe.space.get(name, SpaceRecipe())) for name, outputs in members.items()}


def _space(outputs: Sequence[tuple[Mapping[str, Any], Any]], spec: SpaceRecipe) -> SpaceSource:
    """Return the space of (definition, output) pairs; tower names don't matter."""
    facts = sorted(json.dumps([definition, output.tensors], sort_keys=True) for definition, output in outputs)
    first = outputs[0][1]
    return SpaceSource(
        definition={"outputs": facts},
        dim=first.dim,
        metric=spec.metric or _METRICS.get(first.kind, "cosine"),
        scale=spec.scale,
        bias=spec.bias,
        lineage=spec.lineage,
    )

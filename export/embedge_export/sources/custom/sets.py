"""Parts that are sets, in the original: each piece goes alone through the original of its tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedge.arrays import Array
from embedge.bundle.manifest import Part, SetSpec
from embedge.content import Vector
from embedge_export.errors import ExportError
from embedge_export.model import Original, TowerSource

__all__ = ["with_sets"]


def with_sets(original: Original, parts: Mapping[str, Part], towers: Mapping[str, TowerSource]) -> Original:
    """Wrap an original that takes vectors of pieces into one that takes sets.

    Args:
        original: Takes an array of (pieces, dim), or the pooled vector, for each part that is a set.
        parts: The tower's parts.
        towers: The towers of pieces; read when the original runs.

    Raises:
        ExportError: The pieces of a part have a prompt.
    """
    sets = {name: part.set for name, part in parts.items() if part.set is not None}
    if prompted := [name for name, spec in sets.items() if spec.prompt is not None]:
        raise ExportError(f"the pieces of part {prompted[0]!r} have a prompt; make it their tower's default instead")

    def wrapped(item: Any) -> Mapping[str, Array]:
        if len(parts) == 1:
            return original(_vectors(item, next(iter(sets.values())), towers))
        made = {name: _vectors(item[name], spec, towers) for name, spec in sets.items() if name in item}
        return original({**item, **made})

    return wrapped if sets else original


def _vectors(pieces: Sequence[Any], spec: SetSpec, towers: Mapping[str, TowerSource]) -> Array | Vector:
    """Return the vectors (pieces, dim), or their mean or maximum (dim,)."""
    if spec.tower not in towers:
        raise ExportError(f"a set names the tower {spec.tower!r}; the towers are: {', '.join(towers)}")
    vectors = np.stack([towers[spec.tower].original(piece)[spec.output] for piece in pieces])
    if spec.pool is None:
        return vectors
    pooled = vectors.max(axis=0) if spec.pool == "max" else vectors.mean(axis=0, dtype=np.float64)
    return Vector(pooled.astype(np.float32))

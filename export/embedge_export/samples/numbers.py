"""Synthetic arrays, table rows and vectors for the gate: random within a part's bounds, the same every time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.part_specs import Column, FarthestPoints, TablePrepare, TensorPrepare, VectorPrepare
from embedge.content import Vector

__all__ = ["arrays", "table_rows", "vectors"]

# Bounds a symbolic axis: the gate runs all items, some one by one.
_LONG = 64


def arrays(spec: TensorPrepare, count: int, lengths: dict[str, list[int]]) -> list[NDArray[Any]]:
    """Return `count` arrays of a tensor part, such as (time, 5). `lengths` collects sizes of symbols by item."""
    for place, axis in enumerate(spec.shape):
        if isinstance(axis, str) and axis not in lengths:
            draw = np.random.default_rng(len(lengths))
            longest = min(_LONG, spec.max_length)
            least = 4 if place == 0 and any(isinstance(step, FarthestPoints) for step in spec.steps) else 1
            lengths[axis] = draw.integers(min(least, longest), longest + 1, count).tolist()
    return [_array(spec, item, lengths) for item in range(count)]


def _array(spec: TensorPrepare, item: int, lengths: dict[str, list[int]]) -> NDArray[Any]:
    draw = np.random.default_rng(item)
    shape = [lengths[axis][item] if isinstance(axis, str) else axis for axis in spec.shape]
    low = spec.minimum if spec.minimum is not None else (0.0 if spec.dtype in ("uint8", "bool") else -3.0)
    high = spec.maximum if spec.maximum is not None else max(low + 1.0, 3.0 if spec.dtype != "uint8" else 255.0)
    if np.dtype(spec.dtype).kind in "iub":
        top = 1 if spec.dtype == "bool" else int(high)
        return draw.integers(int(np.ceil(low)), top, shape, endpoint=True).astype(spec.dtype)
    values = np.clip(draw.standard_normal(shape) * (high - low) / 6 + (high + low) / 2, low, high).astype(spec.dtype)
    if spec.missing == "mask" and values.size:
        values[draw.random(shape) < 0.1] = np.nan
    return values


def table_rows(spec: TablePrepare, count: int) -> list[dict[str, float | str | None]]:
    """Return rows of a table part; cells that may be missing sometimes are."""
    draws = map(np.random.default_rng, range(count))
    return [{column.name: _cell(column, draw) for column in spec.columns} for draw in draws]


def _cell(column: Column, draw: np.random.Generator) -> float | str | None:
    if column.missing and draw.random() < 0.2:
        return None
    if column.categories:
        return str(draw.choice(column.categories))
    low = -3.0 if column.minimum is None else column.minimum
    high = max(low, 3.0) if column.maximum is None else column.maximum
    return float(draw.uniform(min(low, high), high))


def vectors(spec: VectorPrepare, count: int) -> list[Vector]:
    """Return float32 vectors (dim,) of a vector part."""
    return [Vector(np.random.default_rng(item).standard_normal(spec.dim).astype(np.float32)) for item in range(count)]

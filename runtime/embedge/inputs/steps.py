"""Steps of tensor parts carried out: fewer points of a cloud, another number of rows of a series."""

from __future__ import annotations

import numpy as np

from embedge.arrays import Array
from embedge.bundle.part_specs import FarthestPoints, TensorStep

__all__ = ["apply"]


def apply(step: TensorStep, values: Array) -> Array:
    """Apply a step to floats `(rows, …)`. Returns `(step.count, …)` of the same dtype."""
    return _farthest(values, step.count) if isinstance(step, FarthestPoints) else _resampled(values, step.count)


def _farthest(values: Array, count: int) -> Array:
    """Return the rows that farthest point sampling takes, in its order; up to `count` rows are kept as they are.

    Each next row is the one whose nearest taken row is farthest away; of several, the first. O(rows * count).
    (Eldar et al., 1997, "The farthest point strategy for progressive image sampling".)
    """
    rows = len(values)
    if rows <= count:
        return values[np.arange(count) % rows]
    points = np.ascontiguousarray(values[:, :3].T, dtype=np.float64)
    points = points / (np.abs(points).max() or 1.0)  # squares of any numbers stay finite
    taken = np.zeros(count, dtype=np.intp)
    nearest = np.full(rows, np.inf)
    for place in range(1, count):
        away = points - points[:, taken[place - 1], None]
        np.minimum(nearest, np.einsum("ij,ij->j", away, away), out=nearest)
        taken[place] = nearest.argmax()
    return values[taken]


def _resampled(values: Array, count: int) -> Array:
    """Return `count` rows, evenly spaced from the first to the last, each between its two neighbours."""
    rows = len(values)
    if rows == count:
        return values
    places = np.linspace(0, rows - 1, count)
    left = np.floor(places).astype(np.intp)
    right = np.minimum(left + 1, rows - 1)
    share = (places - left).reshape(-1, *([1] * (values.ndim - 1)))
    return (values[left] * (1 - share) + values[right] * share).astype(values.dtype)

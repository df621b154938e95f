"""Multi-vector: a vector a token, patch or frame; padding and masked places are left out.

In this order: masked places go, vectors are cut, pooled to the budget, scaled to length 1 again, and quantised.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.arrays import Floats
from embedge.bundle.output_specs import CodesOutput, MultiVectorOutput
from embedge.errors import InvalidInput
from embedge.outputs.base import RowMask, Shapes, Tensors, cut_to, magnitudes
from embedge.outputs.quantise import DType, normalize, quantise
from embedge.outputs.ragged import RaggedRows, offsets_of, places
from embedge.outputs.results import MultiVectors

__all__ = ["MultiVectorCollector", "check", "collector", "good", "kept", "pooled", "shapes"]

Offsets = NDArray[np.int64]


def check(output: MultiVectorOutput, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Return the dimension the vectors will have.

    Raises:
        InvalidInput: an option doesn't fit this kind of output.
    """
    try:
        possible = pool is None or operator.index(pool) >= 1
    except TypeError:
        possible = False
    if not possible:
        raise InvalidInput(f"pool {pool!r} is not possible: ask for 1 vector an item or more")
    return cut_to(output, dim, dtype, name=name)


def shapes(output: MultiVectorOutput) -> Shapes:
    """Return the required dtypes and shapes: float `(rows, places, dim)`, and keep `(rows, places)` if any."""
    known: Shapes = {output.tensor: ("f", ("places", output.dim))}
    if output.keep is not None:
        known[output.keep] = ("biu", ("places",))
    return known


def kept(output: MultiVectorOutput | CodesOutput, tensors: Tensors) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the number of kept places of each row, `(rows,)`, and their entries, `(total, dim)`."""
    array = tensors[output.tensor]
    if output.keep is None:
        return np.full(len(array), array.shape[1], np.int64), array.reshape(-1, array.shape[2])
    keep = tensors[output.keep] != 0
    return keep.sum(axis=1, dtype=np.int64), array[keep]


def good(output: MultiVectorOutput, tensors: Tensors) -> RowMask:
    """Return the mask `(rows,)` of valid rows: finite and not all zero at every kept place; a row may keep none."""
    totals = magnitudes(tensors[output.tensor])
    empty: RowMask = np.zeros(len(totals), bool)
    if output.keep is not None:
        keep = tensors[output.keep] != 0
        totals, empty = np.where(keep, totals, 0.0), ~keep.any(axis=1)
    total = totals.sum(axis=1)
    flags: RowMask = np.isfinite(total) & ((total > 0) | empty)
    return flags


def pooled(values: Floats, offsets: Offsets, pool: int) -> tuple[Floats, Offsets, RowMask]:
    """Return at most `pool` vectors an item, their offsets, and which of them are means of several.

    An item of k > pool vectors becomes `pool` groups of neighbours, as equal in size as can be (vector j is in group
    j * pool // k), and each group its mean: the sequential pooling of Clavié et al., 2024 (arXiv:2409.14683).
    """
    counts = np.diff(offsets)
    groups = np.minimum(counts, pool)
    fresh = offsets_of(groups)
    place = places(np.zeros(len(counts), np.int64), groups)
    own, least = np.repeat(counts, groups), np.repeat(groups, groups)
    starts = np.repeat(offsets[:-1], groups) + -(-place * own // least)  # the first j with j * pool // k == place
    sizes = np.diff(np.append(starts, len(values)))
    if not len(starts):
        return values, fresh, np.zeros(0, bool)
    sums = np.add.reduceat(values, starts, axis=0)
    return (sums / sizes[:, None]).astype(np.float32), fresh, sizes > 1


class MultiVectorCollector:
    """Keeps the vectors that have a place of their own, cut, in float32."""

    def __init__(
        self, output: MultiVectorOutput, count: int, *, dim: int, dtype: DType, pool: int | None = None
    ) -> None:
        self._output, self._dim, self._dtype, self._pool = output, dim, dtype, pool
        self._rows = RaggedRows(count, np.empty((0, dim), np.float32))

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Keep the rows of a batch: row i of each tensor belongs to item `indices[i]`."""
        counts, vectors = kept(self._output, tensors)
        # A copy: what is kept must not hold on to the batch.
        self._rows.add(indices, counts, vectors[:, : self._dim].astype(np.float32))

    def finish(self) -> MultiVectors:
        """Return the vectors in the items' order.

        Raises:
            InvalidInput: a number is too large for the dtype.
        """
        offsets, (values,) = self._rows.finish()
        cut = self._dim < self._output.dim
        changed = np.full(len(values), cut)
        if self._pool is not None:
            values, offsets, means = pooled(values, offsets, self._pool)
            changed = means | cut
        if self._output.normalized and changed.any():
            # A vector that is as the graph made it stays so, whatever else is in the request.
            values[changed] = normalize(values[changed])
        values, scales = quantise(values, self._dtype)
        return MultiVectors(values, offsets, self._output.space, self._dtype, scales)


def collector(
    output: MultiVectorOutput, count: int, *, dim: int, dtype: DType, pool: int | None
) -> MultiVectorCollector:
    """Return a collector for the vectors of `count` items."""
    return MultiVectorCollector(output, count, dim=dim, dtype=dtype, pool=pool)

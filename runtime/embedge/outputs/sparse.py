"""Sparse: the weights over 0 of a vocabulary's entries, the highest `top` of each item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.bundle.output_specs import SparseOutput
from embedge.outputs.base import RowMask, Shapes, Tensors, magnitudes, one_of, uncut, unpooled
from embedge.outputs.leading import leading
from embedge.outputs.quantise import FLOAT_DTYPES, DType, halve
from embedge.outputs.ragged import RaggedRows
from embedge.outputs.results import Sparse

__all__ = ["SparseCollector", "check", "collector", "good", "shapes"]


def check(output: SparseOutput, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Return the size of the vocabulary.

    Raises:
        InvalidInput: an option doesn't fit this kind of output.
    """
    unpooled(pool, name=name)
    one_of(dtype, FLOAT_DTYPES, name=name, why="a few weights an item, which are not packed")
    return uncut(output.dim, dim, name=name, why="a weight for each entry of a vocabulary")


def shapes(output: SparseOutput) -> Shapes:
    """Return the required dtype and shape of the tensor: float `(rows, dim)`."""
    return {output.tensor: ("f", (output.dim,))}


def good(output: SparseOutput, tensors: Tensors) -> RowMask:
    """Return the mask `(rows,)` of valid rows: finite; all zeros is valid."""
    return np.isfinite(magnitudes(tensors[output.tensor]))


class SparseCollector:
    """Keeps the weights that count, in float32."""

    def __init__(self, output: SparseOutput, count: int, *, dtype: DType) -> None:
        self._output, self._dtype = output, dtype
        self._rows = RaggedRows(count, np.empty(0, np.int32), np.empty(0, np.float32))

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Keep the rows of a batch: row i of each tensor belongs to item `indices[i]`."""
        weights = tensors[self._output.tensor]
        chosen = weights > 0
        if self._output.top is not None:
            crowded = np.flatnonzero(chosen.sum(axis=1) > self._output.top)
            chosen[crowded] &= leading(weights[crowded], self._output.top)
        _, entries = np.nonzero(chosen)
        self._rows.add(indices, chosen.sum(axis=1, dtype=np.int64), entries.astype(np.int32), weights[chosen])

    def finish(self) -> Sparse:
        """Return the weights in the items' order.

        Raises:
            InvalidInput: a number is too large for the dtype.
        """
        offsets, (entries, weights) = self._rows.finish()
        return Sparse(entries, halve(weights, self._dtype), offsets, self._output.space, self._output.dim)


def collector(output: SparseOutput, count: int, *, dim: int, dtype: DType, pool: int | None) -> SparseCollector:
    """Return a collector for the weights of `count` items."""
    return SparseCollector(output, count, dtype=dtype)

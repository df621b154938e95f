"""Scores: a number for each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.bundle.output_specs import ScoresOutput
from embedge.outputs.base import RowMask, Shapes, Tensors, magnitudes, one_of, uncut, unpooled
from embedge.outputs.quantise import FLOAT_DTYPES, DType, halve
from embedge.outputs.results import Scores

__all__ = ["ScoresCollector", "check", "collector", "good", "shapes"]


def check(output: ScoresOutput, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Return the number of labels.

    Raises:
        InvalidInput: an option doesn't fit this kind of output.
    """
    unpooled(pool, name=name)
    one_of(dtype, FLOAT_DTYPES, name=name, why="scores, whose numbers are what they mean")
    return uncut(len(output.labels), dim, name=name, why="a number for each label")


def shapes(output: ScoresOutput) -> Shapes:
    """Return the required dtype and shape of the tensor: float `(rows, labels)`."""
    return {output.tensor: ("f", (len(output.labels),))}


def good(output: ScoresOutput, tensors: Tensors) -> RowMask:
    """Return the mask `(rows,)` of valid rows: finite; zero is valid."""
    return np.isfinite(magnitudes(tensors[output.tensor]))


class ScoresCollector:
    """Keeps the numbers, in float32."""

    def __init__(self, output: ScoresOutput, count: int, *, dtype: DType) -> None:
        self._output, self._dtype = output, dtype
        self._values = np.zeros((count, len(output.labels)), np.float32)

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Keep the rows of a batch: row i of each tensor belongs to item `indices[i]`."""
        self._values[indices] = tensors[self._output.tensor]

    def finish(self) -> Scores:
        """Return the scores in the items' order.

        Raises:
            InvalidInput: a number is too large for the dtype.
        """
        return Scores(halve(self._values, self._dtype), self._output.labels)


def collector(output: ScoresOutput, count: int, *, dim: int, dtype: DType, pool: int | None) -> ScoresCollector:
    """Return a collector for the scores of `count` items."""
    return ScoresCollector(output, count, dtype=dtype)

"""Dense: one vector an item, cut to a dimension, scaled to length 1 again, then quantised.

The order matters: cutting a packed or scaled vector would cut something else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.output_specs import DenseOutput
from embedge.outputs.base import RowMask, Shapes, Tensors, cut_to, magnitudes, unpooled
from embedge.outputs.quantise import DType, normalize, quantise
from embedge.outputs.results import Vectors

__all__ = ["DenseCollector", "check", "collector", "finish", "good", "shapes"]


def check(output: DenseOutput, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Return the size that vectors of this output will have. Raises InvalidInput."""
    unpooled(pool, name=name)
    return cut_to(output, dim, dtype, name=name)


def shapes(output: DenseOutput) -> Shapes:
    """Return that the tensor is floats (rows, dim)."""
    return {output.tensor: ("f", (output.dim,))}


def good(output: DenseOutput, tensors: Tensors) -> RowMask:
    """Return which rows are finite and not zero."""
    total = magnitudes(tensors[output.tensor])
    return np.isfinite(total) & (total > 0)


def finish(raw: NDArray[np.float32], output: DenseOutput, *, dim: int, dtype: DType) -> Vectors:
    """Turn raw graph output (n, output.dim), or its first `dim` numbers, into the vectors asked for.

    `dim` and `dtype` passed `check`. Raises InvalidInput for numbers that the dtype cannot hold.
    """
    values = raw
    if dim < output.dim:
        values = raw[:, :dim]
        values = normalize(values) if output.normalized else np.ascontiguousarray(values)
    values, scales = quantise(values, dtype)
    return Vectors(values, output.space, dtype, scales)


class DenseCollector:
    """Keeps the numbers that are asked for, in float32."""

    def __init__(self, output: DenseOutput, count: int, *, dim: int, dtype: DType) -> None:
        self._output, self._dim, self._dtype = output, dim, dtype
        self._raw = np.zeros((count, dim), np.float32)

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Take over rows."""
        self._raw[indices] = tensors[self._output.tensor][:, : self._dim]

    def finish(self) -> Vectors:
        """Return the vectors. Raises InvalidInput for numbers that the dtype cannot hold."""
        return finish(self._raw, self._output, dim=self._dim, dtype=self._dtype)


def collector(output: DenseOutput, count: int, *, dim: int, dtype: DType, pool: int | None) -> DenseCollector:
    """Return what collects the vectors of `count` items."""
    return DenseCollector(output, count, dim=dim, dtype=dtype)

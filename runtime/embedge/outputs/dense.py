"""Dense: one vector per item, truncated, normalized again, then quantized.

The order matters: truncating packed or scaled vectors would cut the wrong numbers.
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
    """Return the dimension the vectors will have.

    Raises:
        InvalidInput: an option doesn't fit this kind of output.
    """
    unpooled(pool, name=name)
    return cut_to(output, dim, dtype, name=name)


def shapes(output: DenseOutput) -> Shapes:
    """Return the required dtype and shape of the tensor: float `(rows, dim)`."""
    return {output.tensor: ("f", (output.dim,))}


def good(output: DenseOutput, tensors: Tensors) -> RowMask:
    """Return the mask `(rows,)` of valid rows: finite and not zero."""
    total = magnitudes(tensors[output.tensor])
    return np.isfinite(total) & (total > 0)


def finish(raw: NDArray[np.float32], output: DenseOutput, *, dim: int, dtype: DType) -> Vectors:
    """Turn raw graph output into the vectors of a result.

    Args:
        raw: float32 `(n, output.dim)`, or only its first `dim` columns.
        output: spec of the output.
        dim: dimension to truncate to, as returned by `check`.
        dtype: dtype of the result, accepted by `check`.

    Returns:
        Vectors `(n, dim)`, packed to `(n, dim / 8)` for ubinary.

    Raises:
        InvalidInput: a number is too large for the dtype.
    """
    values = raw
    if dim < output.dim:
        values = raw[:, :dim]
        values = normalize(values) if output.normalized else np.ascontiguousarray(values)
    values, scales = quantise(values, dtype)
    return Vectors(values, output.space, dtype, scales)


class DenseCollector:
    """Keeps the first `dim` numbers of each row, float32 `(count, dim)`."""

    def __init__(self, output: DenseOutput, count: int, *, dim: int, dtype: DType) -> None:
        self._output, self._dim, self._dtype = output, dim, dtype
        self._raw = np.zeros((count, dim), np.float32)

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Keep the rows of a batch: row i of each tensor belongs to item `indices[i]`."""
        self._raw[indices] = tensors[self._output.tensor][:, : self._dim]

    def finish(self) -> Vectors:
        """Return the vectors in the items' order.

        Raises:
            InvalidInput: a number is too large for the dtype.
        """
        return finish(self._raw, self._output, dim=self._dim, dtype=self._dtype)


def collector(output: DenseOutput, count: int, *, dim: int, dtype: DType, pool: int | None) -> DenseCollector:
    """Return a collector for the vectors of `count` items."""
    return DenseCollector(output, count, dim=dim, dtype=dtype)

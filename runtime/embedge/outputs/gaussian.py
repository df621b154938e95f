"""Gaussian: a mean and a log-variance for each dimension."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.bundle.output_specs import GaussianOutput
from embedge.outputs.base import RowMask, Shapes, Tensors, magnitudes, one_of, uncut, unpooled
from embedge.outputs.quantise import FLOAT_DTYPES, DType, halve
from embedge.outputs.results import Gaussian

__all__ = ["GaussianCollector", "check", "collector", "good", "shapes"]


def check(output: GaussianOutput, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Return the number of dimensions.

    Raises:
        InvalidInput: an option doesn't fit this kind of output.
    """
    unpooled(pool, name=name)
    one_of(dtype, FLOAT_DTYPES, name=name, why="variances, which one scale or a sign cannot hold")
    return uncut(output.dim, dim, name=name, why=f"distributions of {output.dim} dimensions")


def shapes(output: GaussianOutput) -> Shapes:
    """Return the required dtypes and shapes: both float `(rows, dim)`."""
    return dict.fromkeys(output.tensors, ("f", (output.dim,)))


def good(output: GaussianOutput, tensors: Tensors) -> RowMask:
    """Return the mask `(rows,)` of valid rows: finite; zero is valid."""
    return np.isfinite(magnitudes(tensors[output.mean]) + magnitudes(tensors[output.log_variance]))


class GaussianCollector:
    """Keeps both tensors, in float32."""

    def __init__(self, output: GaussianOutput, count: int, *, dtype: DType) -> None:
        self._output, self._dtype = output, dtype
        self._mean, self._log_variance = np.zeros((2, count, output.dim), np.float32)

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Keep the rows of a batch: row i of each tensor belongs to item `indices[i]`."""
        self._mean[indices] = tensors[self._output.mean]
        self._log_variance[indices] = tensors[self._output.log_variance]

    def finish(self) -> Gaussian:
        """Return the distributions in the items' order.

        Raises:
            InvalidInput: a number is too large for the dtype.
        """
        mean, log_variance = halve(self._mean, self._dtype), halve(self._log_variance, self._dtype)
        return Gaussian(mean, log_variance, self._output.space, self._dtype)


def collector(output: GaussianOutput, count: int, *, dim: int, dtype: DType, pool: int | None) -> GaussianCollector:
    """Return a collector for the distributions of `count` items."""
    return GaussianCollector(output, count, dtype=dtype)

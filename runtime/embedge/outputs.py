"""Typed results: cut to a dimension, normalise again, then quantise. Vectorised NumPy, one pass a call.

The order matters: truncation first, then normalisation, then quantisation. Cutting a packed or scaled vector
would cut something else.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedge.errors import InvalidInput
from embedge.kinds import DenseOutput

__all__ = ["DTYPES", "DType", "Vectors", "check", "finish", "normalize"]

DType = Literal["float32", "float16", "int8", "ubinary"]
DTYPES: tuple[str, ...] = get_args(DType)


@dataclass(frozen=True, slots=True)
class Vectors:
    """Dense vectors of one space.

    values: (n, dim) in float32, float16 or int8; (n, dim / 8) uint8 for ubinary, first number in the high bit.
    scales: (n,) float32 for int8, with vector ≈ values * scale; None otherwise.
    """

    values: NDArray[np.generic]
    space: str
    dtype: DType = "float32"
    scales: NDArray[np.float32] | None = None


def check(output: DenseOutput, dim: int | None, dtype: str, *, name: str) -> int:
    """Return the size that vectors of this output will have. Raises InvalidInput."""
    if dtype not in DTYPES:
        raise InvalidInput(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    try:
        size = output.dim if dim is None else operator.index(dim)
    except TypeError as error:
        raise InvalidInput(f"dim {dim!r} is no whole number; ask for 1 to {output.dim}") from error
    if not 1 <= size <= output.dim:
        raise InvalidInput(f"dim {dim} is not possible: output {name!r} has {output.dim}; ask for 1 to {output.dim}")
    if output.dims and size != output.dim and size not in output.dims:
        trained = ", ".join(map(str, output.dims))
        raise InvalidInput(f"dim {dim} was not trained for: output {name!r} may be cut to {trained}")
    if dtype == "ubinary" and size % 8:
        raise InvalidInput(f"dim {size} does not fill whole bytes; dtype 'ubinary' needs a multiple of 8")
    return size


def finish(raw: NDArray[np.float32], output: DenseOutput, *, dim: int, dtype: DType) -> Vectors:
    """Turn raw graph output (n, output.dim) into the vectors asked for. `dim` and `dtype` passed `check`.

    Raises InvalidInput for numbers that the dtype cannot hold.
    """
    values = raw
    if dim < output.dim:
        values = raw[:, :dim]
        values = normalize(values) if output.normalized else np.ascontiguousarray(values)
    if dtype == "int8":
        peak = np.abs(values).max(axis=1, initial=0.0)
        scales = np.maximum(peak / 127, np.finfo(np.float32).tiny).astype(np.float32)
        return Vectors(np.rint(values / scales[:, None]).astype(np.int8), output.space, dtype, scales)
    if dtype == "ubinary":
        return Vectors(np.packbits(values > 0, axis=1), output.space, dtype)
    with np.errstate(over="ignore"):
        cast = values.astype(dtype, copy=False)
    if dtype == "float16" and not np.isfinite(cast).all():
        raise InvalidInput("a vector holds numbers over 65,504, which float16 cannot; ask for float32")
    return Vectors(cast, output.space, dtype)


def normalize(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return rows scaled to length 1; a zero row stays zero."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    scaled = np.zeros_like(values)
    np.divide(values, norms, out=scaled, where=norms > 0)
    return scaled

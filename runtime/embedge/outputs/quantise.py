"""Normalize float32 vectors and convert them to the requested dtype."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from embedge.arrays import Floats
from embedge.errors import InvalidInput

__all__ = ["DTYPES", "FLOAT_DTYPES", "DType", "halve", "normalize", "quantise"]

DType = Literal["float32", "float16", "int8", "ubinary"]
DTYPES: tuple[str, ...] = get_args(DType)
FLOAT_DTYPES = ("float32", "float16")
"""Dtypes of results whose numbers can't be packed or scaled."""


def normalize(values: Floats) -> Floats:
    """Scale rows `(n, dim)` to length 1. Zero rows stay zero."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    scaled = np.zeros_like(values)
    np.divide(values, norms, out=scaled, where=norms > 0)
    return scaled


def quantise(values: Floats, dtype: DType) -> tuple[NDArray[Any], Floats | None]:
    """Convert float32 rows to another dtype.

    - int8: scale = max |x| / 127 of the row, q = round(x / scale), half to even; x ≈ q * scale. The error of a number
      is at most scale / 2 = max |x| / 254, and that of a dot product with y at most scale / 2 * sum |y|.
    - ubinary: 1 where x > 0, packed, first number in the high bit; `dim` must be a multiple of 8.

    Args:
        values: float32 `(n, dim)`.
        dtype: dtype of the result.

    Returns:
        Values `(n, dim)`, or `(n, dim / 8)` uint8 for ubinary; scales `(n,)` float32 for int8, else None.

    Raises:
        InvalidInput: a number is too large for float16.
    """
    if dtype == "int8":
        peak = np.abs(values).max(axis=1, initial=0.0)
        scales = np.maximum(peak / 127, np.finfo(np.float32).tiny).astype(np.float32)
        return np.rint(values / scales[:, None]).astype(np.int8), scales
    if dtype == "ubinary":
        return np.packbits(values > 0, axis=1), None
    return halve(values, dtype), None


def halve(values: Floats, dtype: str) -> NDArray[Any]:
    """Convert float32 numbers (n, …) to float32 or float16.

    Raises:
        InvalidInput: a number is too large for float16.
    """
    with np.errstate(over="ignore"):
        cast = values.astype(dtype, copy=False)
    if dtype == "float16" and not np.isfinite(cast).all():
        raise InvalidInput("a vector holds numbers over 65,504, which float16 cannot; ask for float32")
    return cast

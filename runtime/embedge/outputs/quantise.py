"""What becomes of float32 vectors on their way out: scaled to length 1 again, then held in the dtype asked for."""

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
    """Return rows scaled to length 1; a zero row stays zero."""
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    scaled = np.zeros_like(values)
    np.divide(values, norms, out=scaled, where=norms > 0)
    return scaled


def quantise(values: Floats, dtype: DType) -> tuple[NDArray[Any], Floats | None]:
    """Return float32 rows (n, dim) in another dtype, and the scales (n,) that int8 needs.

    int8: scale = max |x| / 127 of the row, q = round(x / scale), to the even one where two are as near, and x ≈ q *
    scale. The error of a number is at most scale / 2 = max |x| / 254, so that of a dot product with y at most
    scale / 2 * sum |y|. ubinary: 1 where x > 0, packed, first number in the high bit; dim is a multiple of 8.
    Raises InvalidInput for numbers that float16 cannot hold.
    """
    if dtype == "int8":
        peak = np.abs(values).max(axis=1, initial=0.0)
        scales = np.maximum(peak / 127, np.finfo(np.float32).tiny).astype(np.float32)
        return np.rint(values / scales[:, None]).astype(np.int8), scales
    if dtype == "ubinary":
        return np.packbits(values > 0, axis=1), None
    return halve(values, dtype), None


def halve(values: Floats, dtype: str) -> NDArray[Any]:
    """Return float32 numbers as float32 or float16. Raises InvalidInput for numbers that float16 cannot hold."""
    with np.errstate(over="ignore"):
        cast = values.astype(dtype, copy=False)
    if dtype == "float16" and not np.isfinite(cast).all():
        raise InvalidInput("a vector holds numbers over 65,504, which float16 cannot; ask for float32")
    return cast

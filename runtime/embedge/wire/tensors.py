"""Convert NumPy arrays to messages and back. On the wire they are row-major and little-endian."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.errors import InvalidInput
from embedge.v1 import embedge_pb2 as pb

__all__ = ["DTYPE_NAMES", "DTYPE_NUMBERS", "fill_tensor", "pack_array", "received", "tensor_array", "unpack_array"]

DTYPE_NUMBERS: dict[str, Any] = {name.removeprefix("DTYPE_").lower(): n for name, n in pb.DType.items() if n}
"""The number of each dtype, by its name."""
DTYPE_NAMES: dict[int, str] = {number: name for name, number in DTYPE_NUMBERS.items()} | {0: "float32"}
"""And the name of each number."""

_LAYOUT = {name: np.dtype("u1" if name == "ubinary" else name).newbyteorder("<") for name in DTYPE_NUMBERS}
# The most that every supported NumPy allows.
_MAX_AXES = 32


def pack_array(values: NDArray[Any], dtype: str) -> bytes:
    """Return the bytes of an array (n, …), row-major and little-endian."""
    return values.astype(_LAYOUT[dtype], copy=False).tobytes()


def unpack_array(data: bytes, dtype: str, shape: Iterable[int]) -> NDArray[Any]:
    """Return packed bytes as an array (n, …) of `shape`: a read-only view on little-endian machines."""
    array = np.frombuffer(data, dtype=_LAYOUT[dtype]).reshape(tuple(shape))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def fill_tensor(message: pb.Tensor, values: NDArray[Any], dtype: str | None = None) -> None:
    """Write an array into an empty message.

    Args:
        message: The empty message.
        values: An array (n, …), or a scalar ().
        dtype: The dtype's name on the wire, such as ubinary; None takes the array's.

    Raises:
        InvalidInput: The wire has no such dtype.
    """
    name = dtype or values.dtype.name
    if name not in DTYPE_NUMBERS:
        raise InvalidInput(f"an array of dtype {values.dtype} cannot be sent; make it float32, or one of integers")
    message.dtype = DTYPE_NUMBERS[name]
    message.shape.extend(values.shape)
    message.data = pack_array(values, name)


def tensor_array(message: pb.Tensor) -> NDArray[Any]:
    """Return the array (n, …) of an untrusted message, a view of its bytes. Raises InvalidInput; see `received`."""
    name = DTYPE_NAMES.get(message.dtype)
    if name is None or name == "ubinary":
        raise InvalidInput(f"a tensor's dtype is {name or f'number {message.dtype}'}, which parts cannot have")
    return received(message.data, name, message.shape)


def received(data: bytes, dtype: str, shape: Iterable[int]) -> NDArray[Any]:
    """Return untrusted bytes as an array (n, …), a view of them. Nothing is allocated.

    Args:
        data: The bytes, row-major and little-endian.
        dtype: The dtype's name.
        shape: The announced shape.

    Raises:
        InvalidInput: The bytes don't fit dtype and shape.
    """
    sizes = list(shape)
    if len(sizes) > _MAX_AXES or min(sizes, default=0) < 0:
        raise InvalidInput(f"a tensor's shape {sizes[:_MAX_AXES]} is not possible")
    announced = math.prod(sizes) * _LAYOUT[dtype].itemsize
    if announced != len(data):
        raise InvalidInput(
            f"a tensor of {dtype} {sizes} has {announced:,} bytes, but {len(data):,} were sent; send it whole"
        )
    try:
        array = unpack_array(data, dtype, sizes)
    except (ValueError, OverflowError) as error:  # no elements, but an axis that is too long for any array
        raise InvalidInput(f"a tensor's shape {sizes} is not possible") from error
    if dtype == "bool" and (array.view(np.uint8) > 1).any():
        raise InvalidInput("a tensor of bool holds bytes that are neither 0 nor 1")
    return array

"""The contract of an output kind, and checks that the kinds share."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput
from embedge.errors import InvalidInput
from embedge.outputs.quantise import DTYPES, DType
from embedge.outputs.results import Result

__all__ = [
    "Collector",
    "OutputKind",
    "RowMask",
    "Shapes",
    "Tensors",
    "cut_to",
    "magnitudes",
    "one_of",
    "uncut",
    "unpooled",
]

Tensors = Mapping[str, NDArray[Any]]
RowMask = NDArray[np.bool_]
Shapes = dict[str, tuple[str, tuple[int | str, ...]]]

S = TypeVar("S", contravariant=True)


class Collector(Protocol):
    """Collects the rows of one request's items, in any order, and makes the result."""

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Copy what the result needs. Row i of each tensor `(rows, …)` belongs to item `indices[i]`."""

    def finish(self) -> Result:
        """Return the result. Items without a row are zero, or empty.

        Raises:
            InvalidInput: a number is too large for the dtype.
        """


class OutputKind(Protocol[S]):
    """A module that implements one kind of output. `output` is its spec."""

    def check(self, output: S, dim: int | None, dtype: str, pool: int | None, *, name: str) -> int:
        """Return how many numbers a row, or each vector of a row, will have.

        Raises:
            InvalidInput: an option doesn't fit this kind.
        """

    def shapes(self, output: S) -> Shapes:
        """Return for each tensor the accepted NumPy dtype kinds and the axes after the rows."""

    def good(self, output: S, tensors: Tensors) -> RowMask:
        """Return the mask `(rows,)` of valid rows."""

    def collector(self, output: S, count: int, *, dim: int, dtype: DType, pool: int | None) -> Collector:
        """Return a collector for `count` items. `check` accepted the options and returned `dim`."""


def magnitudes(array: NDArray[Any]) -> NDArray[np.float64]:
    """Sum magnitudes along the last axis, `(…, n)` to `(…)`: finite if all are finite, 0 if all are 0."""
    # A sum of finite float32 numbers cannot overflow in float64.
    return np.abs(array).sum(axis=-1, dtype=np.float64)  # type: ignore[no-any-return]


def cut_to(output: DenseOutput | MultiVectorOutput, dim: int | None, dtype: str, *, name: str) -> int:
    """Return the dimension that vectors of this output will have.

    Raises:
        InvalidInput: `dim` or `dtype` isn't possible.
    """
    one_of(dtype, DTYPES, name=name)
    try:
        size = output.dim if dim is None else operator.index(dim)
    except TypeError as error:
        raise InvalidInput(f"dim {dim!r} is not a whole number; ask for 1 to {output.dim}") from error
    if not 1 <= size <= output.dim:
        raise InvalidInput(f"dim {dim} is not possible: output {name!r} has {output.dim}; ask for 1 to {output.dim}")
    if output.dims and size != output.dim and size not in output.dims:
        trained = ", ".join(map(str, output.dims))
        raise InvalidInput(f"dim {dim} was not trained for: output {name!r} may be cut to {trained}")
    if dtype == "ubinary" and size % 8:
        raise InvalidInput(f"dim {size} does not fill whole bytes; dtype 'ubinary' needs a multiple of 8")
    return size


def uncut(size: int, dim: int | None, *, name: str, why: str) -> int:
    """Return the size of an output that can't be truncated.

    Raises:
        InvalidInput: another `dim` was requested; the message gives `why`.
    """
    if dim is not None and dim != size:
        raise InvalidInput(f"dim {dim!r} is not possible: output {name!r} has {why}; leave dim out")
    return size


def one_of(dtype: str, possible: Sequence[str], *, name: str, why: str = "") -> None:
    """Raise InvalidInput unless `dtype` is possible. `why` explains what rules out the others."""
    if dtype not in DTYPES:
        raise InvalidInput(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    if dtype not in possible:
        rest = f"choose one of {', '.join(possible)}"
        raise InvalidInput(f"dtype {dtype!r} is not possible: output {name!r} has {why}; {rest}")


def unpooled(pool: int | None, *, name: str) -> None:
    """Raise InvalidInput if pooling is requested of an output with one vector per item."""
    if pool is not None:
        raise InvalidInput(f"pool is not possible: output {name!r} has not many vectors an item; leave pool out")

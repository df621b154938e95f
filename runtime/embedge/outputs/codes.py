"""Codes: bits, packed, or integers; one code an item, or one a place as in a multi-vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.output_specs import CodesOutput
from embedge.outputs.base import RowMask, Shapes, Tensors, one_of, uncut, unpooled
from embedge.outputs.multi_vector import kept
from embedge.outputs.quantise import DType
from embedge.outputs.ragged import RaggedRows
from embedge.outputs.results import Codes

__all__ = ["CodesCollector", "check", "collector", "good", "shapes"]

_INT32 = np.iinfo(np.int32)


def check(output: CodesOutput, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Return the length of a code.

    Raises:
        InvalidInput: an option doesn't fit this kind of output.
    """
    unpooled(pool, name=name)
    # float32 is what a request says that names no dtype; codes are then what they are.
    possible = ("float32", "ubinary") if output.form == "bits" else ("float32",)
    one_of(dtype, possible, name=name, why=f"codes, which are {output.form} whatever the dtype")
    return uncut(output.dim, dim, name=name, why="codes, of which a part means nothing")


def shapes(output: CodesOutput) -> Shapes:
    """Return the required dtypes and shapes: numeric `(rows, dim)`, or `(rows, places, dim)` with a keep tensor."""
    kinds = "fbiu" if output.form == "bits" else "iu"
    if output.keep is None:
        return {output.tensor: (kinds, (output.dim,))}
    return {output.tensor: (kinds, ("places", output.dim)), output.keep: ("biu", ("places",))}


def good(output: CodesOutput, tensors: Tensors) -> RowMask:
    """Return the mask `(rows,)` of valid rows: finite, or within int32 for integers."""
    array = tensors[output.tensor]
    fine: RowMask = np.isfinite(array) if array.dtype.kind == "f" else (array >= _INT32.min) & (array <= _INT32.max)
    if output.keep is not None:
        fine |= (tensors[output.keep] == 0)[:, :, None]
    return np.logical_and.reduce(fine, axis=tuple(range(1, fine.ndim)))  # type: ignore[no-any-return]


class CodesCollector:
    """Keeps codes as they will leave: packed bits, or int32."""

    def __init__(self, output: CodesOutput, count: int) -> None:
        self._output = output
        bits = output.form == "bits"
        self._values = np.zeros((count, output.dim // 8 if bits else output.dim), np.uint8 if bits else np.int32)
        self._rows = None if output.keep is None else RaggedRows(count, self._values[:0])

    def add(self, indices: Sequence[int], tensors: Tensors) -> None:
        """Keep the rows of a batch: row i of each tensor belongs to item `indices[i]`."""
        if self._rows is None:
            self._values[indices] = self._held(tensors[self._output.tensor])
        else:
            counts, codes = kept(self._output, tensors)
            self._rows.add(indices, counts, self._held(codes))

    def finish(self) -> Codes:
        """Return the codes in the items' order."""
        if self._rows is None:
            return Codes(self._values, self._output.space, self._output.form)
        offsets, (values,) = self._rows.finish()
        return Codes(values, self._output.space, self._output.form, offsets)

    def _held(self, codes: NDArray[Any]) -> NDArray[Any]:
        return np.packbits(codes > 0, axis=1) if self._output.form == "bits" else codes.astype(np.int32)


def collector(output: CodesOutput, count: int, *, dim: int, dtype: DType, pool: int | None) -> CodesCollector:
    """Return a collector for the codes of `count` items."""
    return CodesCollector(output, count)

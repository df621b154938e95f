"""Typed arrays to rows: dtype, shape and numbers are checked once for a whole chunk; a bad array fails alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from embedge.arrays import Array
from embedge.batches.batch import Row
from embedge.bundle.part_specs import TensorPrepare
from embedge.config import RuntimeConfig
from embedge.errors import EmbedgeError, InvalidInput
from embedge.inputs import steps
from embedge.request import Request

__all__ = ["TensorInput"]

# Kinds of NumPy dtypes that convert into each kind and mean the same: a number is no truth value, nor the reverse.
_FROM = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
_PROBE_ROWS = 8


class TensorInput:
    """Prepares the arrays of one part. Safe to call from several threads.

    Takes NumPy arrays, lists of numbers, or one number where the shape is (). Rows are copies: what the caller does
    to an array afterwards changes nothing.
    """

    def __init__(self, spec: TensorPrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        self.spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._ragged = spec.fills()[spec.inputs["values"]].ragged
        self._wanted = f"{spec.dtype} ({', '.join(map(str, spec.shape))})"
        self._low, self._high = _bounds(spec, self._dtype)

    def check(self, request: Request) -> None:
        """Accept every request: no option of a request is about tensors."""

    def prepare(self, contents: Sequence[object], request: Request) -> list[Row | EmbedgeError]:
        """Return each array's row, values and observed in the spec's shape, or its error."""
        found = [self._array(content) for content in contents]
        rows = iter(self._rows([array for array in found if isinstance(array, np.ndarray)]))
        return [next(rows) if isinstance(array, np.ndarray) else array for array in found]

    def probe(self) -> Array:
        """Return an array of the spec's dtype and shape, with numbers within bounds."""
        shape = tuple(min(_PROBE_ROWS, self.spec.max_length) if isinstance(s, str) else s for s in self.spec.shape)
        low, high = _span(self.spec)
        values = low + (high - low) * (7 - np.arange(math.prod(shape)) % 7) / 8
        if self._dtype.kind in "iu":
            values = np.clip(np.rint(values), self._low, self._high)
        return (values > 0.5 if self._dtype.kind == "b" else values.astype(self._dtype)).reshape(shape)

    def size(self, row: Row) -> int:
        """Return a ragged row's rows in units, at least 1; 1 where every row has the same shape."""
        return self._units(len(row[self.spec.inputs["values"]])) if self._ragged else 1

    def estimate(self, contents: Sequence[object]) -> int:
        """Return about the sum of the sizes."""
        if not self._ragged:
            return len(contents)
        return sum(self._units(min(_count(content), self.spec.max_length)) for content in contents)

    def weight(self, content: object) -> int:
        """Return about how many bytes the array has."""
        count = 1
        for _ in self.spec.shape:
            if isinstance(content, (list, tuple)) and content:
                count, content = count * len(content), content[0]
        return count * (content.nbytes if isinstance(content, np.ndarray) else 8)

    def _units(self, rows: int) -> int:
        return max(1, rows // self.spec.unit)

    def _array(self, content: object) -> Array | EmbedgeError:
        """Return the content as an array of the wanted form, or what is wrong with its type or shape."""
        if not isinstance(content, (np.ndarray, np.generic, list, tuple, int, float)):
            return InvalidInput(f"a tensor {self._wanted} is needed here, not {type(content).__name__}; give an array")
        if isinstance(content, np.ma.MaskedArray) and np.ma.is_masked(content):
            return InvalidInput("the array is masked; give one that has NaN where a number is missing: .filled(np.nan)")
        try:
            array = np.asarray(content)
        except Exception as error:  # objects in a list may raise anything when they are asked for their numbers
            return InvalidInput(f"a tensor {self._wanted} is needed here, and this list is none: {error}")
        return self._kind_fault(array) or self._shape_fault(array) or array

    def _kind_fault(self, array: Array) -> EmbedgeError | None:
        too_wide = array.dtype == np.uint64 and self._dtype.kind in "iu"
        if too_wide or array.dtype.kind not in _FROM[self._dtype.kind]:
            return InvalidInput(
                f"the array is {array.dtype}, which does not convert safely; this part takes {self._wanted}"
            )
        return None

    def _shape_fault(self, array: Array) -> EmbedgeError | None:
        spec = self.spec
        if array.ndim != len(spec.shape):
            return InvalidInput(
                f"the array has {array.ndim} axes, {array.shape}; this part takes {len(spec.shape)}: {self._wanted}"
            )
        for axis, (size, wanted) in enumerate(zip(array.shape, spec.shape, strict=True)):
            if isinstance(wanted, int) and size != wanted:
                return InvalidInput(f"axis {axis} has size {size:,}, this part takes {wanted:,}: {self._wanted}")
            if size == 0:
                return InvalidInput(f"axis {axis} ({wanted}) is empty; give at least one row, or leave the item out")
            if isinstance(wanted, str) and size > spec.max_length:
                return InvalidInput(
                    f"axis {axis} ({wanted}) has size {size:,}, the model's limit is {spec.max_length:,}; "
                    "cut or thin out the array"
                )
        return None

    def _rows(self, arrays: Sequence[Array]) -> list[Row | EmbedgeError]:
        """Return the rows of arrays of the right form, all from one array, or one by one where a number is bad."""
        if not arrays:
            return []
        flat = _joined(arrays, self._dtype)
        # NaN compares as false, and infinity is beyond the bounds: one comparison finds every bad number.
        if self._low <= flat.min() and flat.max() <= self._high:
            return self._cut(flat, None, arrays)
        seen = ~np.isnan(flat) if self.spec.missing == "mask" else np.ones(len(flat), dtype=bool)
        bad = seen & ~((flat >= self._low) & (flat <= self._high))
        starts = np.cumsum([0, *(array.size for array in arrays[:-1])])
        if not bad.any() and np.logical_or.reduceat(seen, starts).all():
            return self._cut(np.where(seen, flat, flat.dtype.type(0)), seen, arrays)
        if len(arrays) > 1:
            return [self._rows([array])[0] for array in arrays]
        return [self._number_fault(arrays[0], bad)]

    def _number_fault(self, array: Array, bad: Array) -> EmbedgeError:
        if not bad.any():
            return InvalidInput("every number of the array is missing (NaN); leave the item out")
        place = np.unravel_index(int(bad.argmax()), array.shape)
        value = array[place]
        where = f"at {tuple(map(int, place))}" if place else "here"
        if not np.isfinite(value):
            return InvalidInput(f"the number {where} is {value}; this part takes finite numbers")
        return InvalidInput(f"the number {where} is {value!s}, this part takes {self._low!s} to {self._high!s}")

    def _cut(self, flat: Array, seen: Array | None, arrays: Sequence[Array]) -> list[Row | EmbedgeError]:
        """Return each array's part of `flat` in its own shape, through the steps. `seen`: None where all of it is."""
        inputs = self.spec.inputs
        flat = flat.astype(self._dtype, copy=False)
        seen = np.ones(len(flat), dtype=bool) if seen is None and "observed" in inputs else seen
        rows: list[Row | EmbedgeError] = []
        ends = accumulate(array.size for array in arrays)
        for end, array in zip(ends, arrays, strict=True):
            here = slice(end - array.size, end)
            row = {inputs["values"]: self._stepped(flat[here].reshape(array.shape))}
            if seen is not None and "observed" in inputs:
                row[inputs["observed"]] = seen[here].reshape(array.shape)
            rows.append(row)
        return rows

    def _stepped(self, values: Array) -> Array:
        for step in self.spec.steps:
            values = steps.apply(step, values)
        return values


def _bounds(spec: TensorPrepare, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Return the least and the greatest number that are taken, as exact as the dtype is."""
    if dtype.kind == "b":
        return False, True
    if dtype.kind == "f":
        widest = np.finfo(dtype)
        low = widest.min if spec.minimum is None else max(float(widest.min), spec.minimum)
        high = widest.max if spec.maximum is None else min(float(widest.max), spec.maximum)
        return dtype.type(low), dtype.type(high)
    whole = np.iinfo(dtype)
    low = whole.min if spec.minimum is None else max(whole.min, math.ceil(spec.minimum))
    return low, whole.max if spec.maximum is None else min(whole.max, math.floor(spec.maximum))


def _span(spec: TensorPrepare) -> tuple[float, float]:
    """Return two numbers within the bounds, which differ where the bounds do; 0 and 1 where there are none."""
    low, high = spec.minimum, spec.maximum
    if low is None:
        low = 0.0 if high is None or high > 0 else high - 1
    return low, high if high is not None else max(1.0, low + 1)


def _joined(arrays: Sequence[Array], dtype: np.dtype[Any]) -> Array:
    """Return all numbers in one array: floats of `dtype`, infinite beyond it, or integers that are not yet checked."""
    wide = dtype if dtype.kind in "fb" else np.dtype(np.int64)
    with np.errstate(over="ignore"):
        return np.concatenate([array.ravel() for array in arrays], dtype=wide, casting="unsafe")


def _count(content: object) -> int:
    """Return the size of a content's first axis, whatever it is."""
    return (
        len(content) if isinstance(content, (list, tuple)) or (isinstance(content, np.ndarray) and content.ndim) else 1
    )

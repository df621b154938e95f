"""Results: one output for all items of a request. Row i belongs to item i.

Every result has `kind`, `len()` and, by index, the row of an item. Rows of failed items are zero, or empty if ragged.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.output_specs import CodeForm
from embedge.outputs.leading import leading
from embedge.outputs.quantise import DType
from embedge.outputs.ragged import offsets_of, places

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Codes", "Gaussian", "MultiVectors", "Result", "Scores", "Sparse", "Vectors"]


class _Rowwise:
    """What all results have: arrays whose first axis goes by row, or by the entries of ragged rows."""

    __slots__ = ()

    kind: ClassVar[str]
    _arrays: ClassVar[tuple[str, ...]]

    def _offsets(self) -> NDArray[np.int64] | None:
        """Where each row's entries begin, (n + 1,); None where a row is one entry."""
        return None

    def __len__(self) -> int:
        offsets = self._offsets()
        return len(getattr(self, self._arrays[0])) if offsets is None else len(offsets) - 1

    def _span(self, row: int) -> slice:
        """Return which entries a row has. Raises IndexError."""
        place = operator.index(row)
        if not -len(self) <= place < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        place %= len(self)
        offsets = self._offsets()
        return slice(place, place + 1) if offsets is None else slice(int(offsets[place]), int(offsets[place + 1]))

    def take(self, rows: Sequence[int] | NDArray[np.integer[Any]]) -> Self:
        """Return a result of these rows `(k,)`, in this order."""
        chosen = np.asarray(rows, np.int64)
        offsets = self._offsets()
        changes: dict[str, Any] = {}
        if offsets is not None:
            counts = np.diff(offsets)[chosen]
            chosen = places(offsets[chosen], counts)
            changes["offsets"] = offsets_of(counts)
        arrays = {name: getattr(self, name) for name in self._arrays}
        changes |= {name: array[chosen] for name, array in arrays.items() if array is not None}
        return replace(self, **changes)  # type: ignore[type-var]

    def join(self, *others: Self) -> Self:
        """Append the rows of other results of the same output."""
        parts = (self, *others)
        changes: dict[str, Any] = {}
        offsets = [each for part in parts if (each := part._offsets()) is not None]
        if offsets:
            changes["offsets"] = offsets_of(np.concatenate([np.diff(each) for each in offsets]))
        for name in self._arrays:
            if getattr(self, name) is not None:
                changes[name] = np.concatenate([getattr(part, name) for part in parts])
        return replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True, slots=True, eq=False)
class Vectors(_Rowwise):
    """Dense vectors of one space. `[i]` is the vector of item i.

    Attributes:
        values: `(n, dim)` float32, float16 or int8; `(n, dim / 8)` uint8 for ubinary, first number in the high bit.
        space: id of the vector space.
        dtype: how the numbers are stored.
        scales: `(n,)` float32 for int8, with vector ≈ values * scale; None otherwise.
    """

    kind: ClassVar[str] = "dense"
    _arrays: ClassVar[tuple[str, ...]] = ("values", "scales")

    values: NDArray[Any]
    space: str
    dtype: DType = "float32"
    scales: NDArray[np.float32] | None = None

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self._span(row).start]  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, eq=False)
class MultiVectors(_Rowwise):
    """Several vectors per item, one per token, patch or frame. `[i]` is `(k, dim)`.

    Attributes:
        values: `(total, dim)`, stored as in `Vectors`.
        offsets: `(n + 1,)` int64; item i has rows `offsets[i]` to `offsets[i + 1]`.
        space: id of the vector space.
        dtype: how the numbers are stored.
        scales: `(total,)` float32 for int8; None otherwise.
    """

    kind: ClassVar[str] = "multi_vector"
    _arrays: ClassVar[tuple[str, ...]] = ("values", "scales")

    values: NDArray[Any]
    offsets: NDArray[np.int64]
    space: str
    dtype: DType = "float32"
    scales: NDArray[np.float32] | None = None

    def _offsets(self) -> NDArray[np.int64]:
        return self.offsets

    def __getitem__(self, row: int) -> NDArray[Any]:
        return self.values[self._span(row)]


@dataclass(frozen=True, slots=True, eq=False)
class Sparse(_Rowwise):
    """Positive weights over the entries of a vocabulary. `[i]` is `(indices, weights)`, each `(k,)`.

    Attributes:
        indices: `(total,)` int32, ascending in each row.
        weights: `(total,)` float32 or float16.
        offsets: `(n + 1,)` int64; item i has entries `offsets[i]` to `offsets[i + 1]`.
        space: id of the vector space.
        size: entries in the vocabulary.
    """

    kind: ClassVar[str] = "sparse"
    _arrays: ClassVar[tuple[str, ...]] = ("indices", "weights")

    indices: NDArray[np.int32]
    weights: NDArray[Any]
    offsets: NDArray[np.int64]
    space: str
    size: int

    def _offsets(self) -> NDArray[np.int64]:
        return self.offsets

    @property
    def dtype(self) -> DType:
        """How the numbers are stored."""
        return cast("DType", str(self.weights.dtype))

    def __getitem__(self, row: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        span = self._span(row)
        return self.indices[span], self.weights[span]


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian(_Rowwise):
    """Normal distributions with diagonal covariance. `[i]` is `(mean, log_variance)`, each `(dim,)`.

    Attributes:
        mean: `(n, dim)` float32 or float16.
        log_variance: `(n, dim)`, natural logarithm.
        space: id of the vector space.
        dtype: how the numbers are stored.
    """

    kind: ClassVar[str] = "gaussian"
    _arrays: ClassVar[tuple[str, ...]] = ("mean", "log_variance")

    mean: NDArray[Any]
    log_variance: NDArray[Any]
    space: str
    dtype: DType = "float32"

    def __getitem__(self, row: int) -> tuple[NDArray[Any], NDArray[Any]]:
        place = self._span(row).start
        return self.mean[place], self.log_variance[place]


@dataclass(frozen=True, slots=True, eq=False)
class Codes(_Rowwise):
    """Discrete codes. `[i]` is `(dim,)`, or `(k, dim)` for outputs with several per item.

    Attributes:
        values: for bits `(n, dim / 8)` uint8, first bit in the high place; for integers `(n, dim)` int32. With offsets,
            the first axis runs over the codes of all items, as in `MultiVectors`.
        space: id of the vector space.
        form: bits or integers.
        offsets: `(n + 1,)` int64 for several codes per item; None otherwise.
    """

    kind: ClassVar[str] = "codes"
    _arrays: ClassVar[tuple[str, ...]] = ("values",)

    values: NDArray[Any]
    space: str
    form: CodeForm = "bits"
    offsets: NDArray[np.int64] | None = None

    def _offsets(self) -> NDArray[np.int64] | None:
        return self.offsets

    @property
    def dtype(self) -> Literal["ubinary", "int32"]:
        """How the numbers are stored."""
        return "ubinary" if self.form == "bits" else "int32"

    def __getitem__(self, row: int) -> NDArray[Any]:
        span = self._span(row)
        return self.values[span] if self.offsets is not None else self.values[span.start]


@dataclass(frozen=True, slots=True, eq=False)
class Scores(_Rowwise):
    """A number for each label. `[i]` is a list of `(label, number)`, in the order of `labels`, or best first.

    Attributes:
        values: `(n, labels)` float32 or float16; `(n, k)` after `best`.
        labels: names of the labels.
        indices: None, or `(n, k)` int32 after `best`: `values[i, j]` belongs to `labels[indices[i, j]]`.
    """

    kind: ClassVar[str] = "scores"
    _arrays: ClassVar[tuple[str, ...]] = ("values", "indices")

    values: NDArray[Any]
    labels: tuple[str, ...]
    indices: NDArray[np.int32] | None = None

    @property
    def dtype(self) -> DType:
        """How the numbers are stored."""
        return cast("DType", str(self.values.dtype))

    def __getitem__(self, row: int) -> list[tuple[str, float]]:
        place = self._span(row).start
        labels = self.labels if self.indices is None else [self.labels[index] for index in self.indices[place]]
        return list(zip(labels, self.values[place].tolist(), strict=True))

    def best(self, count: int) -> Scores:
        """Return the `count` highest scores of each row, best first. Ties keep the order of the labels."""
        width = min(count, self.values.shape[1])
        places = np.nonzero(leading(self.values, count))[1].reshape(len(self), width)
        order = np.argsort(-np.take_along_axis(self.values, places, axis=1), axis=1, kind="stable")
        places = np.take_along_axis(places, order, axis=1)
        indices = places if self.indices is None else np.take_along_axis(self.indices, places, axis=1)
        return replace(self, values=np.take_along_axis(self.values, places, axis=1), indices=indices.astype(np.int32))


Result = Vectors | MultiVectors | Sparse | Gaussian | Codes | Scores

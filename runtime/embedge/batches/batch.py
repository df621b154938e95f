"""Batches of rows that run together, their layout and padding. Pure functions over plain values."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Manifest, Tower
from embedge.bundle.part_specs import Fill

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    EntryT = TypeVar("EntryT", default=Any)
else:
    from typing import TypeVar

    EntryT = TypeVar("EntryT")

__all__ = ["Batch", "EntryT", "Layout", "Row", "layout", "pad", "stretch", "trunks"]

Row = Mapping[str, NDArray[np.generic]]
"""The prepared arrays of one item, by graph input, without padding and without masks."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows become a tower's input arrays.

    Attributes:
        dtypes: By input, its dtype.
        fills: By input, its padding.
    """

    dtypes: dict[str, str]
    fills: dict[str, Fill]

    @property
    def varies(self) -> bool:
        """Whether rows differ in length."""
        return any(fill.ragged and fill.width is None and fill.mask_of is None for fill in self.fills.values())


@dataclass(slots=True, eq=False)
class Batch(Generic[EntryT]):
    """Rows that run together in one lane.

    Attributes:
        towers: The tower of each row. All share one trunk.
        rows: The prepared arrays of each row.
        lengths: The length of each row over all its parts.
        entries: What the scheduler knows each row by. Lanes return it unchanged.
        formed: When the batch was formed, on the scheduler's clock.
        predicted: Predicted seconds.
    """

    towers: list[str]
    rows: list[Row]
    lengths: list[int]
    entries: Sequence[EntryT] = ()
    formed: float = 0.0
    predicted: float = 0.0

    @property
    def width(self) -> int:
        """The length of the longest row: all rows are padded to it."""
        return max(self.lengths)


def trunks(manifest: Manifest, towers: Mapping[str, Tower]) -> dict[str, str]:
    """Return, by tower, the first tower with the same trunk. Rows of one trunk share batches.

    Towers share a trunk if they lay out their arrays in the same way and begin with the same graph, and if all their
    tensors have an axis of rows.
    """
    firsts: dict[object, str] = {}
    return {name: firsts.setdefault(_trunk(manifest, tower) or name, name) for name, tower in towers.items()}


def _trunk(manifest: Manifest, tower: Tower) -> object:
    """Return a key equal for towers of one trunk; None for a tower that shares with no other."""
    form = layout(manifest, tower)
    made = [spec.shape for step in tower.steps for spec in manifest.graphs[step].outputs]
    if tower.chain is not None or not made or not all(shape and isinstance(shape[0], str) for shape in made):
        return None
    return tower.steps[0], frozenset(form.dtypes.items()), frozenset(form.fills.items())


def layout(manifest: Manifest, tower: Tower) -> Layout:
    """Return how a tower's rows are laid out, from its part specs and its graphs' input dtypes.

    An array without a reader is an output, in float32.
    """
    dtypes = {spec.name: spec.dtype for graph in tower.graphs for spec in manifest.graphs[graph].inputs}
    fills = {name: fill for part in tower.parts.values() for name, fill in part.fills().items()}
    if tower.chain is not None:
        dtypes[tower.chain.order], fills[tower.chain.order] = "int64", Fill()
    return Layout({name: dtypes.get(name, "float32") for name in fills}, fills)


def pad(rows: Sequence[Row], form: Layout, length_multiple: int = 1) -> dict[str, NDArray[np.generic]]:
    """Return the input arrays of a batch, each (rows, …): ragged ones padded, masks made, the others stacked.

    Args:
        rows: The prepared rows.
        form: Their layout.
        length_multiple: Widths of the longest row are rounded up to a multiple of it, or to the fill's limit.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    insides: dict[str, NDArray[np.bool_]] = {}
    for name, fill in form.fills.items():
        source = fill.mask_of or name
        if fill.ragged and source not in insides:
            insides[source] = _inside([len(row[source]) for row in rows], form.fills[source], length_multiple)
        if fill.mask_of is not None:
            arrays[name] = insides[source].astype(form.dtypes[name])
        elif fill.ragged:
            arrays[name] = _fill([row[name] for row in rows], insides[name], fill.pad, form.dtypes[name])
        else:
            arrays[name] = np.stack([row[name] for row in rows]).astype(form.dtypes[name], copy=False)
    return arrays


def stretch(row: Row, form: Layout, factor: float) -> Row:
    """Repeat the ragged arrays of a row to `factor` times their length, up to the limits of their fills."""
    longer = dict(row)
    for name, array in row.items():
        fill = form.fills[name]
        if fill.ragged:
            count = min(round(len(array) * factor), fill.most or sys.maxsize)
            longer[name] = np.resize(array, (count, *array.shape[1:]))
    return longer


def _fill(arrays: list[NDArray[np.generic]], inside: NDArray[np.bool_], pad: float, dtype: str) -> NDArray[np.generic]:
    """Return (rows, width, …): padding, and the rows' values where `inside` is true. Copies all rows at once."""
    filled = np.full((*inside.shape, *arrays[0].shape[1:]), pad, dtype)
    filled[inside] = np.concatenate(arrays)
    return filled


def _inside(sizes: Sequence[int], fill: Fill, length_multiple: int) -> NDArray[np.bool_]:
    """Return (rows, width) bool: true for values, false for padding. The width is at least 1."""
    width = fill.width or _width(max(1, *sizes), fill, length_multiple)
    places = np.arange(width)
    column = np.asarray(sizes)[:, None]
    return places >= width - column if fill.left else places < column


def _width(longest: int, fill: Fill, length_multiple: int) -> int:
    """Return the width of a batch by its longest row. A row over the fill's limit keeps its length."""
    rounded = -(-longest // length_multiple) * length_multiple
    return rounded if fill.most is None else max(longest, min(rounded, fill.most))

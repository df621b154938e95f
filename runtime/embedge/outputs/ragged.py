"""Ragged arrays: the entries of all items in sequence, item i at `[offsets[i], offsets[i + 1])`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RaggedRows", "offsets_of", "places"]

Counts = NDArray[np.int64]


def offsets_of(counts: Counts) -> NDArray[np.int64]:
    """Return offsets `(n + 1,)` for counts `(n,)`: where each item's entries begin, and where the last end."""
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def places(starts: NDArray[np.int64], counts: Counts) -> NDArray[np.int64]:
    """Return the indices of all runs in sequence, `(sum of counts,)`: `counts[i]` of them from `starts[i]` on."""
    before = offsets_of(counts)
    return np.arange(before[-1]) + np.repeat(starts - before[:-1], counts)


class RaggedRows:
    """Collects the entries of `count` items, which come in any order, many items at a time; one that never comes has 0.

    templates: an empty array for each of the arrays that an entry is made of, for the dtype and the width.
    """

    def __init__(self, count: int, *templates: NDArray[np.generic]) -> None:
        self._counts = np.zeros(count, np.int64)
        self._templates = templates
        self._pieces: list[tuple[NDArray[np.int64], tuple[NDArray[np.generic], ...]]] = []

    def add(self, indices: Sequence[int], counts: Counts, *arrays: NDArray[np.generic]) -> None:
        """Add the entries of items: `counts[i]` of each array `(total, …)` belong to item `indices[i]`, in turn."""
        items = np.asarray(indices, np.int64)
        self._counts[items] = counts
        self._pieces.append((items, arrays))

    def finish(self) -> tuple[NDArray[np.int64], list[NDArray[Any]]]:
        """Return offsets `(count + 1,)`, and the arrays `(total, …)` with entries in the items' order."""
        offsets = offsets_of(self._counts)
        merged: list[NDArray[Any]] = [
            np.empty((int(offsets[-1]), *each.shape[1:]), each.dtype) for each in self._templates
        ]
        for items, arrays in self._pieces:
            where = places(offsets[items], self._counts[items])
            for target, array in zip(merged, arrays, strict=True):
                target[where] = array
        return offsets, merged

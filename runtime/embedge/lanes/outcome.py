"""What became of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedge.backends import Arrays

__all__ = ["Group", "Outcome"]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one tower that were computed together. Those of one batch may differ in all axes but the first.

    rows: their places in the batch. arrays: output tensors by name, each (len(rows), …). good: (len(rows),) bool,
    whether a row is finite, and what else its outputs ask for.
    """

    rows: Sequence[int]
    arrays: Arrays
    good: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: what was computed, and what went wrong, by row.

    error: the lane broke, and nothing was computed. seconds: None where the figure says nothing about the cost of such
    a batch.
    """

    groups: Sequence[Group] = ()
    faults: Mapping[int, Exception] = field(default_factory=dict)
    error: Exception | None = None
    seconds: float | None = None

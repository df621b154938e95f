"""The outcome of a batch: its results and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedge.backends import Arrays

__all__ = ["Group", "Outcome"]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one tower, computed together. Groups of one batch may differ in all axes but the first.

    Attributes:
        rows: The places of the rows in the batch.
        arrays: Output tensors by name, each (len(rows), …).
        good: (len(rows),) bool, whether a row is finite and valid for its outputs.
    """

    rows: Sequence[int]
    arrays: Arrays
    good: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a batch, and the errors of its rows.

    Attributes:
        groups: The computed rows.
        faults: Errors of single rows, by place in the batch.
        error: Why the whole batch failed: the lane broke.
        seconds: What the batch took; None if that does not predict the cost of similar batches.
    """

    groups: Sequence[Group] = ()
    faults: Mapping[int, Exception] = field(default_factory=dict)
    error: Exception | None = None
    seconds: float | None = None

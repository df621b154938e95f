"""Chooses the waiting entries that form a batch. Pure functions over plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["CostModel", "Limits", "form_batch"]


class CostModel(Protocol):
    """Predicts the cost of batches."""

    def seconds(self, rows: int, length: int) -> float:
        """Return the predicted seconds of a batch of `rows` rows padded to `length`."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest batch.

    Attributes:
        rows: Rows at most.
        tokens: Padded tokens at most, rows times the longest row, in the unit of length of the modality. A single row
            may exceed it.
    """

    rows: int
    tokens: int


# A larger batch must raise the work per second by more than this share. Otherwise the smaller one is better: it ends
# sooner.
_GAIN = 0.03


def form_batch(
    lengths: Sequence[int], anchor: int, slack: Sequence[float], cost: CostModel, limits: Limits
) -> tuple[int, int]:
    """Return the best window of the queue around an anchor.

    Entries join in order of nearness in length. A window is scored by its speed-up: the seconds of its entries one at
    a time, divided by its seconds as one batch. The smallest window near the best score wins. So the batch is not
    slower than its entries one at a time, nor than all entries at once where the limits allow that. An entry does not
    join if the batch would miss a deadline that can be met without it. Takes O(limits.rows).

    Args:
        lengths: Lengths of the waiting entries, ascending.
        anchor: Position of the entry that must be in the window.
        slack: Seconds until each entry's deadline; inf for none.
        cost: Predicts the seconds of a batch.
        limits: The largest batch.

    Returns:
        The window [low, high).
    """
    low, high = anchor, anchor + 1
    alone = cost.seconds(1, lengths[anchor])
    tightest = slack[anchor] if slack[anchor] >= alone else float("inf")
    path = [(1.0, (low, high))]
    while high - low < limits.rows:
        joined = _nearest(lengths, anchor, low, high, limits)
        if joined is None:
            break
        wider = (min(low, joined), max(high, joined + 1))
        took = cost.seconds(wider[1] - wider[0], lengths[wider[1] - 1])
        own = cost.seconds(1, lengths[joined])
        tightest = min(tightest, slack[joined] if slack[joined] >= own else float("inf"))
        if took > tightest:
            break
        low, high = wider
        alone += own
        path.append((alone / took, wider))
    everything = path[-1][0] if high - low == len(lengths) else 0.0
    enough = max(1.0, everything, max(path)[0] * (1 - _GAIN))
    return next(window for score, window in path if score >= enough)


def _nearest(lengths: Sequence[int], anchor: int, low: int, high: int, limits: Limits) -> int | None:
    """Return the position beside the window nearest to the anchor in length, within the token limit."""
    rows = high - low + 1
    shorter = low - 1 if low > 0 and rows * lengths[high - 1] <= limits.tokens else None
    longer = high if high < len(lengths) and rows * lengths[high] <= limits.tokens else None
    if shorter is None or longer is None:
        return longer if shorter is None else shorter
    return shorter if lengths[anchor] - lengths[shorter] <= lengths[longer] - lengths[anchor] else longer

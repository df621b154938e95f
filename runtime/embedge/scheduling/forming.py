"""Forming batches: which waiting entries go together. Pure functions over plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["CostModel", "Limits", "form_batch"]


class CostModel(Protocol):
    """What a batch of `rows` rows, each padded to `length`, costs in seconds."""

    def seconds(self, rows: int, length: int) -> float:
        """Return the predicted seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Most rows in a batch, and most padded tokens (rows x longest row). One row alone may exceed the latter.

    A token stands for a unit of length of any modality.
    """

    rows: int
    tokens: int


# A larger batch must do more work a second by more than this share, or the smaller one is taken: it is done sooner.
_GAIN = 0.03


def form_batch(
    lengths: Sequence[int], anchor: int, slack: Sequence[float], cost: CostModel, limits: Limits
) -> tuple[int, int]:
    """Return the window [low, high) of the queue that makes the best batch around its anchor.

    lengths: of the waiting entries, ascending. anchor: position of the entry that must be in.
    slack: seconds until each entry's deadline (inf: none).

    Entries join in order of nearness in length. Each window on the way is scored by its speed-up: the seconds that its
    entries would take one at a time, over the seconds that it takes as a batch. The smallest window near the best score
    wins, so the batch is not slower than one at a time, nor than everything at once where the limits allow that.
    An entry whose company would break a deadline that could be met alone is not joined. O(limits.rows).
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
    """Return the position beside the window that is nearest to the anchor in length and within the token limit."""
    rows = high - low + 1
    shorter = low - 1 if low > 0 and rows * lengths[high - 1] <= limits.tokens else None
    longer = high if high < len(lengths) and rows * lengths[high] <= limits.tokens else None
    if shorter is None or longer is None:
        return longer if shorter is None else shorter
    return shorter if lengths[anchor] - lengths[shorter] <= lengths[longer] - lengths[anchor] else longer

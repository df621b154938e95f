"""The cost table: what a batch costs in seconds, learned from the batches that ran."""

from __future__ import annotations

import threading

__all__ = ["CostTable"]

# A start that is right within a small factor on common CPUs; every batch that runs corrects it.
_FIXED_SECONDS = 5e-4
_TOKEN_SECONDS = 5e-5
_LEARNING_RATE = 0.2


class CostTable:
    """Seconds of a batch as a fixed part plus a part for each padded token.

    Owned by one embedder; lanes' completions call `observe`, the scheduler calls `seconds`.
    """

    def __init__(self, *, fixed: float = _FIXED_SECONDS, token: float = _TOKEN_SECONDS) -> None:
        self._fixed = fixed
        self._token = token
        self._lock = threading.Lock()  # owned by whoever is in observe; readers see one float at a time

    def seconds(self, rows: int, length: int) -> float:
        """Return the predicted seconds of `rows` rows padded to `length` tokens."""
        return self._fixed + self._token * rows * length

    def observe(self, rows: int, length: int, seconds: float) -> None:
        """Learn from a batch that took `seconds`. One outlier moves the table by a bounded factor."""
        with self._lock:
            ratio = min(2.0, max(0.5, seconds / self.seconds(rows, length)))
            step = 1.0 + _LEARNING_RATE * (ratio - 1.0)
            self._fixed *= step
            self._token *= step

"""Predicts how long waiting work takes, from the speed-up of recent batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from embedge.request import Priority
from embedge.scheduling.fair_queue import BULK_TURN, Call

__all__ = ["WaitModel"]

# Weight of the newest batch in the observed speed-up of batches.
_LEARNING_RATE = 0.1


class WaitModel:
    """Owned by the scheduler, used under its lock. Work is in predicted seconds of entries one at a time on one lane.

    Attributes:
        running_seconds: Predicted seconds of the running batches.
    """

    def __init__(self, lanes: int) -> None:
        """Create a model of so many lanes that has seen no batch."""
        self.running_seconds = 0.0
        self._lanes = lanes
        # Seconds of recent batches, predicted for one row at a time and for whole batches. Older batches fade.
        self._single = self._batched = 0.0

    def observe(self, single: float, batched: float) -> None:
        """Learn from a batch that starts.

        Args:
            single: Predicted seconds of its rows one at a time.
            batched: Predicted seconds of the batch.
        """
        self.running_seconds += batched
        self._single += single - _LEARNING_RATE * self._single
        self._batched += batched - _LEARNING_RATE * self._batched

    def seconds(self, work: float) -> float:
        """Return the real seconds that this work takes on all lanes."""
        speedup = max(1.0, self._single / self._batched) if self._batched else 1.0
        return work / (self._lanes * speedup)

    def until_done(
        self, call: Call, work: float, queued: Mapping[Priority, float], others: Iterable[Call], virtual_time: float
    ) -> float:
        """Return about how many seconds pass until a new call is done.

        All waiting interactive work runs before it, except what calls of several items still have when the new call has
        had its share. Bulk work runs before an interactive call in its turns only.

        Args:
            call: The new call.
            work: Its work.
            queued: The waiting work by priority.
            others: Interactive calls of several items that wait.
            virtual_time: Virtual time of interactive work now.
        """
        ahead = queued["interactive"]
        for other in others:
            left = other.queued_seconds + other.unprepared * other.item_seconds
            ahead -= max(0.0, left - max(0.0, virtual_time + work - other.virtual_time))
        bulk = queued["bulk"]
        if call.priority == "interactive":
            bulk = min(bulk, ahead / BULK_TURN)
        return self.seconds(ahead + bulk + work) + self.running_seconds / self._lanes

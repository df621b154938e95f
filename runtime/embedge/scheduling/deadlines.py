"""The deadlines of waiting calls, soonest first."""

from __future__ import annotations

import heapq
import itertools
import weakref
from collections.abc import Collection

from embedge.scheduling.fair_queue import FOREVER, Call

__all__ = ["Deadlines"]


class Deadlines:
    """Owned by the scheduler, used under its lock."""

    def __init__(self) -> None:
        # Weak references: a finished call must not keep its results until its deadline.
        self._heap: list[tuple[float, int, weakref.ref[Call]]] = []
        self._order = itertools.count()  # breaks ties deterministically

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def soonest(self) -> float:
        """The first deadline; inf if no call has one."""
        return self._heap[0][0] if self._heap else FOREVER

    def add(self, call: Call, active: Collection[Call]) -> None:
        """Add a call's deadline, and from time to time remove those of calls that are not active any more."""
        if call.deadline == FOREVER:
            return
        if len(self._heap) > 2 * len(active) + 64:
            self._heap = [watched for watched in self._heap if watched[2]() in active]
            heapq.heapify(self._heap)
        heapq.heappush(self._heap, (call.deadline, next(self._order), weakref.ref(call)))

    def expired(self, now: float, active: Collection[Call]) -> list[Call]:
        """Remove the deadlines that have passed, and return their active calls."""
        calls = []
        while self._heap and self._heap[0][0] <= now:
            call = heapq.heappop(self._heap)[2]()
            if call is not None and call in active:
                calls.append(call)
        return calls

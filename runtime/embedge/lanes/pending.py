"""The batches that a lane has taken and not yet answered, and the deadline by which it must make progress.

Each batch is answered once: by its lane, or by the watchdog that abandons the lane.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic

from embedge.batches.batch import Batch, EntryT
from embedge.lanes.outcome import Outcome

__all__ = ["PendingBatches"]

log = logging.getLogger("embedge.lanes")

# A lane hangs if a batch takes this many times its predicted seconds plus `hang_seconds`.
_PREDICTED_TIMES = 10.0
# Each step of opening, testing, warming up or closing may take this many times `hang_seconds`, five minutes on a GPU by
# default: CUDA compiles kernels on first use where a library ships none for the device, which takes minutes.
_OPENING_TIMES = 10.0


class PendingBatches(Generic[EntryT]):
    """A lane's open batches. The lane's threads add and answer; the watchdog's thread checks and abandons."""

    def __init__(self, deliver: Callable[[Batch[EntryT], Outcome], None], clock: Callable[[], float]) -> None:
        """Create a pending batches.

        Args:
            deliver: Receives each answered batch, in the thread that answers it.
            clock: Seconds, monotonic.
        """
        self._deliver = deliver
        self._clock = clock
        # Guards the fields below, between the lane's threads and the watchdog's. Released before any delivery.
        self._lock = threading.Lock()
        self._batches: dict[Batch[EntryT], float] = {}  # with the time at which each was taken
        self._last_progress = clock()
        self._suspended = False  # while the lane opens or closes its executor, batches have no deadline
        self._lost: Exception | None = None

    @property
    def abandoned(self) -> bool:
        """Whether the lane was abandoned. Its later answers are dropped."""
        return self._lost is not None

    def add(self, batch: Batch[EntryT]) -> bool:
        """Add a taken batch. Return False if the lane is abandoned; the batch is then answered with the error."""
        with self._lock:
            if self._lost is None:
                self._batches[batch] = self._clock()
                return True
        self._deliver(batch, Outcome(error=self._lost))
        return False

    def answer(self, batch: Batch[EntryT], outcome: Outcome) -> None:
        """Deliver the outcome of a batch, unless the batch was answered when the lane was abandoned."""
        with self._lock:
            known = self._batches.pop(batch, None) is not None
            self._last_progress = self._clock()
        if known:
            self._deliver(batch, outcome)
        else:
            log.warning("an abandoned lane finished a batch of %d rows; the result is dropped", len(batch.rows))

    def heartbeat(self) -> None:
        """Record progress: a step of opening or closing, or part of a batch."""
        self._last_progress = self._clock()

    def suspend_deadline(self) -> None:
        """Begin to open or close the executor: each step has its own, longer deadline."""
        self.heartbeat()
        self._suspended = True  # last: whoever reads it needs the time that belongs to it

    def resume_deadline(self) -> None:
        """End opening or closing: batches have their deadlines again."""
        self._suspended = False

    def hangs(self, now: float, seconds: float) -> float | None:
        """Return the seconds without progress if the lane hangs, else None.

        Args:
            now: The time on the clock of this object.
            seconds: `hang_seconds`. A batch may take this long and ten times its prediction; a step of opening or
                closing may take ten times this long.
        """
        with self._lock:
            if self._suspended:
                inside = now - self._last_progress
                return inside if inside > seconds * _OPENING_TIMES else None
            for batch, since in self._batches.items():
                inside = now - max(since, self._last_progress)
                return inside if inside > seconds + _PREDICTED_TIMES * batch.predicted else None
        return None

    def abandon(self, error: Exception) -> None:
        """Answer all open batches with an error, and drop every later answer."""
        with self._lock:
            self._lost = error
            left, self._batches = list(self._batches), {}
        for batch in left:
            self._deliver(batch, Outcome(error=error))

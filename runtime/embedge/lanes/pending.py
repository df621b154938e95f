"""The batches that a lane took and has not answered. Each is answered once: by the lane, or by whoever gives it up.

Also whether the lane hangs, in one of them or while it opens or closes its post.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from embedge.batches.batch import Batch
from embedge.lanes.outcome import Outcome

__all__ = ["PendingBatches"]

log = logging.getLogger("embedge.lane")

# A batch may take this many times as long as predicted, and some fixed seconds more, before its lane counts as hung.
_PATIENCE = 10.0
# Each step of opening, testing, warming up or closing may take so many times those seconds, five minutes on a GPU by
# default: CUDA compiles kernels, where a library brings none for it, when they are first used, which takes minutes.
_OPENING = 10.0


class PendingBatches:
    """A lane's open batches. The lane's threads add and answer; the watch looks, and gives up."""

    def __init__(self, deliver: Callable[[Batch, Outcome], None], clock: Callable[[], float]) -> None:
        self._deliver = deliver
        self._clock = clock
        self._lock = threading.Lock()  # guards the fields below; never held while anything is delivered
        self._batches: dict[Batch, float] = {}  # with the time at which each was taken
        self._moved = clock()
        self._away = False  # from the batches: the lane opens or closes its post
        self._lost: Exception | None = None

    @property
    def abandoned(self) -> bool:
        """Whether the lane was given up: what it still answers goes nowhere."""
        return self._lost is not None

    def add(self, batch: Batch) -> bool:
        """Note that the lane took a batch; False if the lane was given up meanwhile, and the batch is answered."""
        with self._lock:
            if self._lost is None:
                self._batches[batch] = self._clock()
                return True
        self._deliver(batch, Outcome(error=self._lost))
        return False

    def answer(self, batch: Batch, outcome: Outcome) -> None:
        """Deliver what became of a batch, unless its waiters were told already that the lane hangs."""
        with self._lock:
            known = self._batches.pop(batch, None) is not None
            self._moved = self._clock()
        if known:
            self._deliver(batch, outcome)
        else:
            log.warning("a lane that was given up came back with a batch of %d; it is dropped", len(batch.rows))

    def move(self) -> None:
        """Note that the lane came on, with a batch that is not answered yet or with its post."""
        self._moved = self._clock()

    def go(self) -> None:
        """Note that the lane begins to open or close its post."""
        self.move()
        self._away = True  # last: whoever sees it has the time that belongs to it

    def come(self) -> None:
        """Note that the lane's post is open, or that there is none any more."""
        self._away = False

    def hangs(self, now: float, seconds: float) -> float | None:
        """Return for how long the lane has been in its oldest batch, or away, where that is too long; else None.

        Too long is `seconds`, and some times what the batch was predicted to take; where it is away, some times
        `seconds`.
        """
        with self._lock:
            if self._away:
                inside = now - self._moved
                return inside if inside > seconds * _OPENING else None
            for batch, since in self._batches.items():
                inside = now - max(since, self._moved)
                return inside if inside > seconds + _PATIENCE * batch.predicted else None
        return None

    def give_up(self, error: Exception) -> None:
        """Answer all with an error, and nothing more."""
        with self._lock:
            self._lost = error
            left, self._batches = list(self._batches), {}
        for batch in left:
            self._deliver(batch, Outcome(error=error))

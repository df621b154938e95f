"""A model's lanes: opened together, watched, replaced when one hangs, closed together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from embedge.batches.batch import Batch, EntryT
from embedge.errors import BackendError, EmbedgeError
from embedge.lanes.lane import Lane, WarmUp
from embedge.lanes.outcome import Outcome
from embedge.lanes.setup import LaneSetup
from embedge.lanes.sources import ExecutorSource, WorkSource
from embedge.lanes.watchdog import Watchdog

__all__ = ["LaneFactory", "LanePool"]

log = logging.getLogger("embedge.lanes")


@dataclass(frozen=True)
class LaneFactory(Generic[EntryT]):
    """What all lanes of a pool have in common. See `Lane` for the fields."""

    work: WorkSource[EntryT]
    deliver: Callable[[Batch[EntryT], Outcome], None]
    on_change: Callable[[Lane[EntryT]], None]
    probes: Sequence[Batch]
    max_in_flight: int

    def lane(
        self, name: str, executors: ExecutorSource, *, warm_up: WarmUp | None = None, failures: int = 0
    ) -> Lane[EntryT]:
        """Return a new lane, not started."""
        return Lane(
            name,
            work=self.work,
            executors=executors,
            deliver=self.deliver,
            on_change=self.on_change,
            probes=self.probes,
            warm_up=warm_up,
            max_in_flight=self.max_in_flight,
            failures=failures,
        )


class LanePool(Generic[EntryT]):
    """The lanes of one model, owned by its embedder.

    Attributes:
        lanes: The lanes that take batches.
        abandoned: Lanes that hung. Their threads may never end.
    """

    def __init__(
        self,
        setup: LaneSetup,
        work: WorkSource[EntryT],
        deliver: Callable[[Batch[EntryT], Outcome], None],
        on_change: Callable[[], None],
    ) -> None:
        """Create a lane pool.

        Args:
            setup: The backend, the lane split and the cost tables. The pool closes the backend.
            work: Where lanes take batches from.
            deliver: Receives each batch with its outcome, in the threads of lanes.
            on_change: Called in a lane's thread after `alive` or `given_up` may have changed.
        """
        self._setup = setup
        self._on_change = on_change
        self._changed = threading.Condition()  # between the lanes' threads and the thread that opens the pool
        self._factory = LaneFactory(
            work, deliver, self._lane_changed, setup.probes(), max_in_flight=setup.backend.max_in_flight
        )
        self._executors = setup.executors()
        self._watchdog = Watchdog(lambda: self.lanes, self._replace, hang_seconds=setup.hang_seconds)
        self.lanes: list[Lane[EntryT]] = []
        self.abandoned: list[Lane[EntryT]] = []
        self._replacing = False  # True from a successful start until `join`

    @property
    def alive(self) -> bool:
        """Whether at least one lane takes batches."""
        return any(lane.alive for lane in self.lanes)

    @property
    def given_up(self) -> bool:
        """Whether every lane has given up."""
        return all(lane.given_up for lane in self.lanes)

    def start(self) -> None:
        """Start the lanes and wait until all are alive. Raises the error of the first lane that cannot open.

        Raises:
            BackendError: A lane cannot run.
        """
        warm_up = self._setup.warm_up()
        self.lanes += [
            self._factory.lane(f"{self._setup.name}-{number}", self._executors, warm_up=warm_up)
            for number in range(self._setup.split.lanes)
        ]
        self._watchdog.start()
        for lane in self.lanes:
            lane.start()
        with self._changed:
            self._changed.wait_for(lambda: all(lane.alive or lane.error for lane in self.lanes))
        broken = next((lane.error for lane in self.lanes if lane.error is not None), None)
        if broken is not None:
            raise broken if isinstance(broken, EmbedgeError) else BackendError(f"the lane cannot run: {broken}")
        self._replacing = True
        self._setup.save()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until all lanes have ended, after the work source is closed, and store what was measured.

        Args:
            timeout: Seconds for all lanes together; None waits without limit.

        Returns:
            False if a lane hangs. The backend then stays open.
        """
        self._replacing = False
        end = None if timeout is None else time.monotonic() + timeout
        ended = [lane.join(None if end is None else max(0.0, end - time.monotonic())) for lane in self.lanes]
        self._watchdog.close()  # not before the lanes have ended: without it, a lane that hangs is joined forever
        ended += [lane.join(0.0) for lane in self.abandoned]
        if self.lanes:
            self._setup.save()
        if all(ended):
            self._setup.backend.close()
        return all(ended)

    def check(self, now: float) -> None:
        """Replace every lane that hangs at this time on the clock `time.perf_counter`."""
        self._watchdog.check(now)

    def _lane_changed(self, lane: Lane[EntryT]) -> None:
        if self.given_up:
            log.error("%s: no lane is left; restart the process to serve this model again", lane.name)
        self._on_change()
        with self._changed:
            self._changed.notify_all()

    def _replace(self, lane: Lane[EntryT], seconds: float) -> None:
        """Abandon a lane that hangs and start another in its place. Runs in the watchdog's thread."""
        where = "in one batch" if lane.alive else "opening or closing its sessions"
        log.error("lane %s hangs: it has been %s for %.1f s; it is abandoned", lane.name, where, seconds)
        error = BackendError(f"the lane hung: it was {where} for {seconds:.1f} s")
        if not self._replacing:
            lane.abandon(error)
            return
        if not lane.alive:  # it may hold the lock of its executor factory forever
            self._executors = self._setup.executors()
        another = self._factory.lane(lane.name, self._executors, failures=lane.failures + 1)
        self.abandoned.append(lane)
        self.lanes[self.lanes.index(lane)] = another
        lane.abandon(error)
        another.start()

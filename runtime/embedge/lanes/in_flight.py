"""Batches in flight in a lane, in order.

`SyncSubmitter` has one in flight, all in the lane's thread. `PipelinedSubmitter` has more: the lane prepares and starts
the next batch while the device computes, and a second thread waits for results.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from embedge import trace
from embedge.batches.batch import Batch
from embedge.lanes.executor import Executor
from embedge.lanes.outcome import Outcome
from embedge.lanes.program import Computed

__all__ = ["PipelinedSubmitter", "SyncSubmitter"]


@dataclass(frozen=True, slots=True)
class Flight:
    """A batch that has begun. finish: waits for it, or raises why it could not begin. start: when, on the clock."""

    batch: Batch
    finish: Callable[[], Computed]
    start: float


class SyncSubmitter:
    """Used by the lane's thread only.

    failed: batches that did not come out, with the reason; they are not answered yet.
    """

    def __init__(self, post: Executor, answer: Callable[[Batch, Outcome], None], clock: Callable[[], float]) -> None:
        """`answer`: takes over each batch that came out."""
        self.failed: list[tuple[Batch, Exception]] = []
        self._post = post
        self._answer = answer
        self._clock = clock
        self._ended = float("-inf")  # when the last batch did: the next had the device from then on

    def wait(self) -> None:
        """Wait until another batch may be put, or one has failed."""

    def put(self, batch: Batch) -> None:
        """Begin a batch."""
        self._land(self._begin(batch))

    def drain(self) -> list[tuple[Batch, Exception]]:
        """Wait until nothing is in flight; return the failed ones, which are the caller's from now on."""
        failed, self.failed = self.failed, []
        return failed

    def close(self) -> list[tuple[Batch, Exception]]:
        """Drain for good."""
        return self.drain()

    def _begin(self, batch: Batch) -> Flight:
        start = self._clock()
        try:
            with trace.during("start", rows=len(batch.rows), length=max(batch.lengths), tower=batch.towers[0]):
                return Flight(batch, self._post.start(batch), start)
        except Exception as error:  # told where all failures are, after those of the batches before it
            return Flight(batch, _raiser(error), start)

    def _land(self, flight: Flight) -> None:
        """Wait for a batch and hand it over, or note why it failed."""
        try:
            with trace.during("finish", rows=len(flight.batch.rows)):
                groups = self._post.groups(flight.finish())
            if not any(group.good.any() for group in groups):
                raise ArithmeticError("no row of the batch has a finite vector")
        except Exception as error:  # whatever a backend raises, the lane decides what it means
            self._ended = self._clock()
            self.failed.append((flight.batch, error))
            return
        now = self._clock()
        since, self._ended = max(flight.start, self._ended), now
        self._answer(flight.batch, Outcome(groups, seconds=now - since))


class PipelinedSubmitter(SyncSubmitter):
    """Up to `max_in_flight` batches, and the thread that waits for their results in order. Owned by its lane."""

    def __init__(
        self,
        post: Executor,
        answer: Callable[[Batch, Outcome], None],
        clock: Callable[[], float],
        *,
        max_in_flight: int,
        wake: Callable[[], None],
        name: str,
    ) -> None:
        """`wake`: gets the lane out of its wait for work when a batch has failed. Raises what `attach` raises."""
        super().__init__(post, answer, clock)
        self._max_in_flight = max_in_flight
        self._wake = wake
        self._flights: deque[Flight] = deque()  # the first is being waited for
        self._closing = False
        self._changed = threading.Condition()  # guards both; between the lane's thread and this one
        attached: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(attached,), name=f"{name}-results", daemon=True)
        self._thread.start()
        attached.result()

    def wait(self) -> None:
        """Wait until fewer than `max_in_flight` are in flight, or one has failed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._flights) < self._max_in_flight or self.failed)

    def put(self, batch: Batch) -> None:
        """Begin a batch; its result is waited for elsewhere."""
        flight = self._begin(batch)
        with self._changed:
            self._flights.append(flight)
            self._changed.notify_all()

    def drain(self) -> list[tuple[Batch, Exception]]:
        """Wait until nothing is in flight; return the failed ones, which are the caller's from now on."""
        with self._changed:
            self._changed.wait_for(lambda: not self._flights)
        return super().drain()

    def close(self) -> list[tuple[Batch, Exception]]:
        """Drain, and end the thread."""
        failed = self.drain()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        return failed

    def _main(self, attached: Future[None]) -> None:
        try:
            self._post.slot.attach()
        except BaseException as error:  # the lane's thread raises it
            attached.set_exception(error)
            return
        attached.set_result(None)
        try:
            while (flight := self._next()) is not None:
                self._land(flight)
                with self._changed:
                    self._flights.popleft()
                    self._changed.notify_all()
                    failed = bool(self.failed)
                if failed:
                    self._wake()
        finally:
            self._post.slot.detach()

    def _next(self) -> Flight | None:
        """Wait for a batch that has begun; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._flights or self._closing)
            return self._flights[0] if self._flights else None


def _raiser(error: Exception) -> Callable[[], Computed]:
    def finish() -> Computed:
        raise error

    return finish

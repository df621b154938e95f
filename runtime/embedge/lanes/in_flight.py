"""Submits a lane's batches to its executor and answers them in order.

`SyncSubmitter` has one batch in flight and uses the lane's thread only. `PipelinedSubmitter` has several: the lane
prepares and starts the next batch while the device computes, and a second thread waits for the results.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic

from embedge import trace
from embedge.batches.batch import Batch, EntryT
from embedge.lanes.executor import Executor
from embedge.lanes.outcome import Outcome
from embedge.lanes.program import Computed

__all__ = ["PipelinedSubmitter", "SyncSubmitter"]


@dataclass(frozen=True, slots=True)
class Flight(Generic[EntryT]):
    """A started batch.

    Attributes:
        batch: The batch.
        finish: Waits for the results, or raises why the batch could not start.
        start: When the batch started, on the clock.
    """

    batch: Batch[EntryT]
    finish: Callable[[], Computed]
    start: float


class SyncSubmitter(Generic[EntryT]):
    """Runs one batch at a time, in the lane's thread.

    Attributes:
        failed: Failed batches, not answered yet, each with its error.
    """

    def __init__(
        self, executor: Executor, answer: Callable[[Batch[EntryT], Outcome], None], clock: Callable[[], float]
    ) -> None:
        """Create a submitter.

        Args:
            executor: Computes the batches.
            answer: Receives each computed batch with its outcome.
            clock: Seconds, monotonic.
        """
        self.failed: list[tuple[Batch[EntryT], Exception]] = []
        self._executor = executor
        self._answer = answer
        self._clock = clock
        self._ended = float("-inf")  # when the last batch ended: the next one had the device from then on

    def wait(self) -> None:
        """Wait until another batch can be submitted, or one has failed."""

    def submit(self, batch: Batch[EntryT]) -> None:
        """Start a batch."""
        self._land(self._begin(batch))

    def drain(self) -> list[tuple[Batch[EntryT], Exception]]:
        """Wait until nothing is in flight, and hand over the failed batches: the caller answers them."""
        failed, self.failed = self.failed, []
        return failed

    def close(self) -> list[tuple[Batch[EntryT], Exception]]:
        """Drain, and end the thread if there is one."""
        return self.drain()

    def _begin(self, batch: Batch[EntryT]) -> Flight[EntryT]:
        start = self._clock()
        try:
            with trace.during("start", rows=len(batch.rows), length=max(batch.lengths), tower=batch.towers[0]):
                return Flight(batch, self._executor.start(batch), start)
        except Exception as error:  # reported by `finish`, after the batches before it
            return Flight(batch, _raiser(error), start)

    def _land(self, flight: Flight[EntryT]) -> None:
        """Wait for a batch and answer it, or keep it with its error."""
        try:
            with trace.during("finish", rows=len(flight.batch.rows)):
                groups = self._executor.groups(flight.finish())
            if not any(group.good.any() for group in groups):
                raise ArithmeticError("no row of the batch has a finite vector")
        except Exception as error:  # the lane decides what a backend's error means
            self._ended = self._clock()
            self.failed.append((flight.batch, error))
            return
        now = self._clock()
        since, self._ended = max(flight.start, self._ended), now
        self._answer(flight.batch, Outcome(groups, seconds=now - since))


class PipelinedSubmitter(SyncSubmitter[EntryT]):
    """Runs up to `max_in_flight` batches at once. Owns the thread that waits for their results, in order."""

    def __init__(
        self,
        executor: Executor,
        answer: Callable[[Batch[EntryT], Outcome], None],
        clock: Callable[[], float],
        *,
        max_in_flight: int,
        wake: Callable[[], None],
        name: str,
    ) -> None:
        """Start the thread for results. Raises what the slot's `attach` raises.

        Args:
            executor: Computes the batches.
            answer: Receives each computed batch with its outcome, in the thread for results.
            clock: Seconds, monotonic.
            max_in_flight: Batches in flight at once.
            wake: Ends the lane's wait for work after a batch has failed.
            name: The lane's thread; the thread for results is named after it.
        """
        super().__init__(executor, answer, clock)
        self._max_in_flight = max_in_flight
        self._wake = wake
        self._flights: deque[Flight[EntryT]] = deque()  # the thread waits for the first
        self._closing = False
        self._changed = threading.Condition()  # guards both fields, between the lane's thread and this one
        attached: Future[None] = Future()
        self._thread = threading.Thread(target=self._main, args=(attached,), name=f"{name}-results", daemon=True)
        self._thread.start()
        attached.result()

    def wait(self) -> None:
        """Wait until fewer than `max_in_flight` batches are in flight, or one has failed."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._flights) < self._max_in_flight or self.failed)

    def submit(self, batch: Batch[EntryT]) -> None:
        """Start a batch and leave the wait for its results to the other thread."""
        flight = self._begin(batch)
        with self._changed:
            self._flights.append(flight)
            self._changed.notify_all()

    def drain(self) -> list[tuple[Batch[EntryT], Exception]]:
        """Wait until nothing is in flight, and hand over the failed batches: the caller answers them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._flights)
        return super().drain()

    def close(self) -> list[tuple[Batch[EntryT], Exception]]:
        """Drain, and end the thread."""
        failed = self.drain()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()
        return failed

    def _main(self, attached: Future[None]) -> None:
        try:
            self._executor.slot.attach()
        except BaseException as error:  # raised again in the lane's thread
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
            self._executor.slot.detach()

    def _next(self) -> Flight[EntryT] | None:
        """Wait for a started batch; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._flights or self._closing)
            return self._flights[0] if self._flights else None


def _raiser(error: Exception) -> Callable[[], Computed]:
    def finish() -> Computed:
        raise error

    return finish

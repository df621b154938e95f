"""A lane: one thread that runs batches on one executor.

The executor is opened, used and closed in the lane's thread. The lane takes batches from a `WorkSource` and delivers an
outcome for each; it knows nothing of the scheduler behind.

After a failure the lane drains what is in flight and tests itself. If the test passes, the batch was at fault: its rows
run one by one and only the bad ones fail. If the test fails, the lane is at fault: the batch fails as a whole and the
lane opens a new executor. A lane that hangs is abandoned by the watchdog: nothing can end its thread, and nothing waits
for it any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic

from embedge.backends.cores import step_back
from embedge.batches.batch import Batch, EntryT
from embedge.lanes.executor import Executor
from embedge.lanes.in_flight import PipelinedSubmitter, SyncSubmitter
from embedge.lanes.outcome import Group, Outcome
from embedge.lanes.pending import PendingBatches
from embedge.lanes.program import Computed
from embedge.lanes.sources import ExecutorSource, WorkSource

__all__ = ["Lane", "WarmUp"]

log = logging.getLogger("embedge.lanes")

# Failures in a row, without a good batch between them, after which a lane gives up.
_MAX_FAILURES = 3
_BACKOFF_SECONDS = 0.5

WarmUp = Callable[[Callable[[Batch], Computed]], None]
"""Runs batches through the function that it is given."""


class Lane(Generic[EntryT]):
    """A thread that takes batches, runs them and delivers the outcomes.

    Attributes:
        name: In logs, and part of the name of the thread.
        alive: Whether the lane takes batches.
        given_up: Whether the lane failed too often and has ended.
        error: The last failure, while the lane is not alive.
        failures: Failures in a row.
    """

    def __init__(
        self,
        name: str,
        *,
        work: WorkSource[EntryT],
        executors: ExecutorSource,
        deliver: Callable[[Batch[EntryT], Outcome], None],
        on_change: Callable[[Lane[EntryT]], None],
        probes: Sequence[Batch],
        warm_up: WarmUp | None = None,
        max_in_flight: int = 1,
        failures: int = 0,
        clock: Callable[[], float] = time.perf_counter,
        stop: threading.Event | None = None,
        ended: threading.Event | None = None,
    ) -> None:
        """Create a lane.

        Args:
            name: A name for logs and threads.
            work: Where batches come from.
            executors: Opens and closes the lane's executor.
            deliver: Receives each batch with its outcome, in the lane's thread or the thread for results.
            on_change: Called in the lane's thread after every change of `alive` or `given_up`.
            probes: A small batch for each tower, for the self-test.
            warm_up: Measures with the first executor before the lane is alive.
            max_in_flight: Batches in flight at once.
            failures: Failures that count already, as those of a lane that this one replaces.
            clock: Seconds, monotonic.
            stop: Ends a back-off early when set; a new event by default.
            ended: Set when the lane has ended; a new event by default.
        """
        self.name = name
        self.alive = self.given_up = False
        self.error: Exception | None = None
        self.failures = failures
        self._work = work
        self._executors = executors
        self._on_change = on_change
        self._probes = probes
        self._warm_up = warm_up
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._pending = PendingBatches(deliver, clock)
        self._interrupted = threading.Event()  # set by any thread: check the slot before the next batch
        self._stop = stop or threading.Event()  # set by the pool: ends a back-off early
        self._ended = ended or threading.Event()  # set at the end of the thread, or when the lane is abandoned
        # Owned by this lane. A daemon, because a thread that hangs in a driver cannot be ended.
        self._thread = threading.Thread(target=self._main, name=f"embedge-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread, which opens the executor and then takes batches."""
        self._thread.start()

    def wake(self) -> None:
        """Make the lane check its slot, also while it waits for work. Callable from any thread."""
        self._interrupted.set()
        self._work.interrupt()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the thread has ended, after the work source is closed.

        Args:
            timeout: Seconds; None waits without limit.

        Returns:
            False if the lane hangs, or is still running after the timeout.
        """
        self._stop.set()
        if self._thread is threading.current_thread():  # a thread cannot wait for itself
            return False
        if self._ended.wait(timeout) and not self._pending.abandoned:
            self._thread.join()
        return not self._thread.is_alive()

    def hangs(self, now: float, seconds: float) -> float | None:
        """Return the seconds without progress if the lane hangs, else None. See `PendingBatches.hangs`."""
        return self._pending.hangs(now, seconds)

    def abandon(self, error: Exception) -> None:
        """Abandon a lane that hangs: answer its batches with an error and drop what it still delivers."""
        self._stop.set()
        self.alive, self.error = False, error
        self._pending.abandon(error)
        self._on_change(self)
        self._ended.set()
        self.wake()

    def _main(self) -> None:
        step_back()
        try:
            while self.failures < _MAX_FAILURES and not self._stop.is_set():
                if self.failures:
                    self._stop.wait(_BACKOFF_SECONDS * self.failures)
                if self._run():
                    return
            if not self._stop.is_set():
                log.error("lane %s: given up after %d failures in a row", self.name, self.failures)
                self.given_up = True
                self._on_change(self)
        finally:
            self._ended.set()

    def _run(self) -> bool:
        """Open an executor and run batches. Return True when work has ended, False if the lane broke."""
        executor = None
        try:
            self._pending.suspend_deadline()
            executor = self._executors.open(self.wake, self._pending.heartbeat)
            self._self_test(executor)
            self._measure(executor)
            self._pending.resume_deadline()
            self._set(alive=True, error=None)
            self._serve(executor)
            return True
        except Exception as error:  # any failure of a backend ends here: logged, counted, retried
            self.failures += 1
            log.exception("lane %s failed (%d of %d)", self.name, self.failures, _MAX_FAILURES)
            self._set(alive=False, error=error)
            return False
        finally:
            if executor is not None:
                self._pending.suspend_deadline()
                self._close(executor)
            self._pending.resume_deadline()

    def _close(self, executor: Executor) -> None:
        try:
            self._executors.close(executor)
        except Exception:  # the device may be lost; opening a new executor shows whether it matters
            log.exception("lane %s: closing its executor failed", self.name)

    def _serve(self, executor: Executor) -> None:
        """Run batches until work ends, and answer each of them. Raises if the lane is broken."""
        submitter = self._submitter(executor)
        try:
            while self._next(executor, submitter):
                submitter.wait()
                if submitter.failed:
                    self._recover(executor, submitter.drain())
            self._recover(executor, submitter.drain())
        finally:
            for batch, error in submitter.close():
                self._answer(batch, Outcome(error=error))

    def _submitter(self, executor: Executor) -> SyncSubmitter[EntryT]:
        if self._max_in_flight == 1:
            return SyncSubmitter(executor, self._answer, self._clock)
        name = self._thread.name
        return PipelinedSubmitter(
            executor, self._answer, self._clock, max_in_flight=self._max_in_flight, wake=self.wake, name=name
        )

    def _next(self, executor: Executor, submitter: SyncSubmitter[EntryT]) -> bool:
        """Take and submit a batch, or check the slot after an interruption. Return False when work has ended."""
        batch = self._work.take(self._interrupted.is_set)
        if batch is not None:
            if self._pending.add(batch):
                submitter.submit(batch)
        elif self._interrupted.is_set():
            self._interrupted.clear()
            executor.slot.check()
        else:
            return False
        return not self._pending.abandoned

    def _recover(self, executor: Executor, failed: Sequence[tuple[Batch[EntryT], Exception]]) -> None:
        """Answer failed batches, with nothing in flight. Raises if the lane itself is broken."""
        if not failed:
            return
        try:
            self._self_test(executor)
        except Exception as broken:
            for batch, error in failed:
                self._answer(batch, Outcome(error=error))
            raise broken from failed[0][1]
        for batch, _ in failed:
            self._answer(batch, self._one_by_one(executor, batch))

    def _one_by_one(self, executor: Executor, batch: Batch[EntryT]) -> Outcome:
        """Run each row alone, so that only a bad row fails."""
        groups: list[Group] = []
        faults: dict[int, Exception] = {}
        for row in range(len(batch.rows)):
            try:
                single: Batch = Batch([batch.towers[row]], [batch.rows[row]], [batch.lengths[row]])
                groups.extend(replace(group, rows=[row]) for group in executor.groups(executor.compute(single)))
            except Exception as error:
                faults[row] = error
            self._pending.heartbeat()
        return Outcome(groups, faults)

    def _answer(self, batch: Batch[EntryT], outcome: Outcome) -> None:
        if outcome.error is None:
            self.failures = 0
        self._pending.answer(batch, outcome)

    def _self_test(self, executor: Executor) -> None:
        for probe in self._probes:
            executor.test(probe)
            self._pending.heartbeat()

    def _measure(self, executor: Executor) -> None:
        if self._warm_up is not None:
            self._warm_up(lambda batch: self._progressed(executor.compute(batch)))
            self._warm_up = None  # a new executor costs what the first one cost

    def _progressed(self, computed: Computed) -> Computed:
        self._pending.heartbeat()
        return computed

    def _set(self, *, alive: bool, error: Exception | None) -> None:
        self.alive, self.error = alive and not self._pending.abandoned, error
        self._on_change(self)

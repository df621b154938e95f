"""The lane: one execution slot. It owns its thread; its post is opened, used and closed in that thread only.

A lane knows no scheduler: it is given `take` to get batches from and `deliver` to hand outcomes to. When a batch
fails, what is in flight ends first, and the lane tests itself. If the test passes, the batch was to blame: its rows run
one by one and only the bad ones fail. If not, the lane is dead: the batch fails as a whole and the lane opens its post
anew. A lane that hangs is abandoned from outside: its thread cannot be ended, but nobody waits for it any more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from embedge.backends.cores import step_back
from embedge.batches.batch import Batch
from embedge.lanes.executor import Executor
from embedge.lanes.in_flight import PipelinedSubmitter, SyncSubmitter
from embedge.lanes.outcome import Group, Outcome
from embedge.lanes.pending import PendingBatches
from embedge.lanes.program import Computed

__all__ = ["Lane"]

log = logging.getLogger("embedge.lane")

# Failures in a row, with no good batch between them, after which a lane is given up.
_MAX_FAILURES = 3
_BACKOFF_SECONDS = 0.5


class Lane:
    """A thread that takes batches, runs them and delivers what came of them.

    alive: whether it takes batches. failures: in a row, up to now. error: the last of them, while it is not alive.
    """

    def __init__(
        self,
        name: str,
        *,
        open_post: Callable[[Callable[[], None], Callable[[], None]], Executor],
        close_post: Callable[[Executor], None],
        probes: Sequence[Batch],
        warm_up: Callable[[Callable[[Batch], Computed]], None],
        take: Callable[[Callable[[], bool]], Batch | None],
        interrupt: Callable[[], None],
        deliver: Callable[[Batch, Outcome], None],
        changed: Callable[[Lane], None],
        max_in_flight: int = 1,
        failures: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """All but `interrupt` is called in the lane's thread, `deliver` also where results are waited for.

        open_post: is given what wakes the lane, and what to call when it came on. probes: a small batch per tower for
        the self-test. warm_up: is given a way to run batches, once, before the lane is alive. take: waits for a batch;
        None at the end, or once what it is given says so and `interrupt` was called. changed: hears of every change of
        `alive`. max_in_flight: batches in flight.
        """
        self.name = name
        self.alive = self.given_up = False
        self.error: Exception | None = None
        self.failures = failures
        self._open_post = open_post
        self._close_post = close_post
        self._probes = probes
        self._warm_up: Callable[[Callable[[Batch], Computed]], None] | None = warm_up
        self._take = take
        self._interrupt = interrupt
        self._changed = changed
        self._max_in_flight = max_in_flight
        self._clock = clock
        self._taken = PendingBatches(deliver, clock)
        self._called = threading.Event()  # set by any thread: look at the post before the next batch
        self._stop = threading.Event()  # set by the crew; cuts a back-off short
        self._over = threading.Event()  # set at the end of the thread, or when it is abandoned
        self._thread = threading.Thread(target=self._main, name=f"embedge-{name}", daemon=True)

    def start(self) -> None:
        """Open the post and begin to take batches; `changed` hears when the lane is alive or given up."""
        self._thread.start()

    def wake(self) -> None:
        """Have the lane look at its post, also where it waits for work. Called from any thread."""
        self._called.set()
        self._interrupt()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end, once `take` answers None; False if it hangs, or does after `timeout` seconds."""
        self._stop.set()
        if self._thread is threading.current_thread():  # which cannot wait for itself
            return False
        if self._over.wait(timeout) and not self._taken.abandoned:
            self._thread.join()
        return not self._thread.is_alive()

    def hangs(self, now: float, seconds: float) -> float | None:
        """Return for how many seconds the lane has hung, or None; see `PendingBatches.hangs`."""
        return self._taken.hangs(now, seconds)

    def abandon(self, error: Exception) -> None:
        """Give up a thread that hangs: who waits for it is told, and what it still delivers goes nowhere."""
        self._stop.set()
        self.alive, self.error = False, error
        self._taken.give_up(error)
        self._changed(self)
        self._over.set()
        self.wake()

    def _main(self) -> None:
        step_back()
        try:
            while self.failures < _MAX_FAILURES and not self._stop.is_set():
                if self.failures:
                    self._stop.wait(_BACKOFF_SECONDS * self.failures)
                if self._live():
                    return
            if not self._stop.is_set():
                log.error("lane %s is given up after %d failures in a row", self.name, self.failures)
                self.given_up = True
                self._changed(self)
        finally:
            self._over.set()

    def _live(self) -> bool:
        """Open the post and run batches; True at the end of all work, False if the lane broke."""
        post = None
        try:
            self._taken.go()
            post = self._open_post(self.wake, self._taken.move)
            self._self_test(post)
            self._warm(post)
            self._taken.come()
            self._set(alive=True, error=None)
            self._serve(post)
            return True
        except Exception as error:  # any failure of a backend ends up here: it is told, counted, and retried
            self.failures += 1
            log.exception("lane %s failed (%d of %d)", self.name, self.failures, _MAX_FAILURES)
            self._set(alive=False, error=error)
            return False
        finally:
            if post is not None:
                self._taken.go()
                self._leave(post)
            self._taken.come()

    def _leave(self, post: Executor) -> None:
        try:
            self._close_post(post)
        except Exception:  # as where the device is gone; whether a new post opens shows whether it matters
            log.exception("lane %s cannot close all that it had open", self.name)

    def _serve(self, post: Executor) -> None:
        """Run batches until there are no more. Raises if the lane is broken; all that it took is answered then."""
        line = self._line(post)
        try:
            while self._next(post, line):
                line.wait()
                if line.failed:
                    self._recover(post, line.drain())
            self._recover(post, line.drain())
        finally:
            for batch, error in line.close():
                self._answer(batch, Outcome(error=error))

    def _line(self, post: Executor) -> SyncSubmitter:
        if self._max_in_flight == 1:
            return SyncSubmitter(post, self._answer, self._clock)
        name = self._thread.name
        return PipelinedSubmitter(
            post, self._answer, self._clock, max_in_flight=self._max_in_flight, wake=self.wake, name=name
        )

    def _next(self, post: Executor, line: SyncSubmitter) -> bool:
        """Take a batch and begin it, or look at the post where the lane is called to; False if there are no more."""
        batch = self._take(self._called.is_set)
        if batch is not None:
            if self._taken.add(batch):
                line.put(batch)
        elif self._called.is_set():
            self._called.clear()
            post.slot.check()
        else:
            return False
        return not self._taken.abandoned

    def _recover(self, post: Executor, failed: Sequence[tuple[Batch, Exception]]) -> None:
        """Answer batches that failed, with nothing in flight. Raises if the lane itself is broken."""
        if not failed:
            return
        try:
            self._self_test(post)
        except Exception as broken:
            for batch, error in failed:
                self._answer(batch, Outcome(error=error))
            raise broken from failed[0][1]
        for batch, _ in failed:
            self._answer(batch, self._one_by_one(post, batch))

    def _one_by_one(self, post: Executor, batch: Batch) -> Outcome:
        """Run each row alone, so that a row which no batch survives fails by itself."""
        groups: list[Group] = []
        faults: dict[int, Exception] = {}
        for row in range(len(batch.rows)):
            try:
                lone = Batch([batch.towers[row]], [batch.rows[row]], [batch.lengths[row]])
                groups.extend(replace(group, rows=[row]) for group in post.groups(post.compute(lone)))
            except Exception as error:
                faults[row] = error
            self._taken.move()
        return Outcome(groups, faults)

    def _answer(self, batch: Batch, outcome: Outcome) -> None:
        if outcome.error is None:
            self.failures = 0
        self._taken.answer(batch, outcome)

    def _self_test(self, post: Executor) -> None:
        for probe in self._probes:
            post.test(probe)
            self._taken.move()

    def _warm(self, post: Executor) -> None:
        if self._warm_up is not None:
            self._warm_up(lambda batch: self._moved(post.compute(batch)))
            self._warm_up = None  # a rebuilt lane costs what it cost before

    def _moved(self, computed: Computed) -> Computed:
        self._taken.move()
        return computed

    def _set(self, *, alive: bool, error: Exception | None) -> None:
        self.alive, self.error = alive and not self._taken.abandoned, error
        self._changed(self)

"""Admits calls, forms the next batch, drops what is late. Has no thread; the clock is injected."""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from embedge.batches.batch import Batch
from embedge.errors import DeadlineExceeded, EmbedgeError, Overloaded, Unavailable
from embedge.request import Priority
from embedge.scheduling.capacity import QueueCapacity
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.deadlines import Deadlines
from embedge.scheduling.fair_queue import FOREVER, Call, Entry, FairQueue
from embedge.scheduling.forming import Limits
from embedge.scheduling.wait_model import WaitModel

__all__ = ["Scheduler"]

# Longest wait in one go, in seconds: the operating system has a limit far above it, deadlines have none.
_MAX_WAIT_SECONDS = 3600.0
# A call is admitted if it would be in time even after a wait longer than predicted by this factor.
_CAUTION = 1.5
_EXPIRED = "the deadline passed while the call waited; allow more time"
_COUNTED = ("calls", "refused", "expired", "batches", "items", "tokens", "padded_tokens")


class Scheduler:
    """A bounded, fair queue. Only `take`, `wait_for_capacity` and `drain` block. Safe to call from any thread.

    Attributes:
        recent: The last batches: (formed, rows, width, real tokens, items waiting then), for pictures.
    """

    def __init__(
        self,
        costs: Mapping[str, CostTable],
        limits: Limits,
        capacity: QueueCapacity,
        *,
        max_seconds: float,
        max_wait: float = 0.0,
        lanes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create a scheduler.

        Args:
            costs: By tower, its cost table.
            limits: The largest batch.
            capacity: The capacity of the queue, owned by the scheduler from now on.
            max_seconds: Seconds of waiting work above which calls are refused.
            max_wait: Seconds for which a batch that is not full waits for more entries.
            lanes: How many lanes take batches.
            clock: Seconds, monotonic.
        """
        self._costs = costs
        self._limits = limits
        self._capacity = capacity
        self._max_seconds = max_seconds
        self._max_wait = max_wait
        self._lanes = lanes
        self._clock = clock
        # Guards every field below, between callers and lanes. Held for microseconds, never while waiting.
        self._lock = threading.Lock()
        self._work_available = threading.Condition(self._lock)  # lanes wait for entries
        self._work_ended = threading.Condition(self._lock)  # `drain` waits for the end of all work
        self._capacity_freed = threading.Condition(self._lock)  # preparing a large call waits for lanes to take more
        self._queue = FairQueue()
        self._deadlines = Deadlines()
        self._active: dict[Call, None] = {}  # not a set, whose order is not deterministic
        self._queued_seconds: dict[Priority, float] = {"interactive": 0.0, "bulk": 0.0}
        self._multi_item_calls: dict[Call, None] = {}  # active interactive calls of several items
        self._running = 0
        self._wait_model = WaitModel(lanes)
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._refusal: EmbedgeError | None = None
        self._ending: EmbedgeError | None = None  # like `_refusal`, but final
        self._stopped = False
        self.recent: deque[tuple[float, int, int, int, int]] = deque(maxlen=4096)

    def admit(self, call: Call, items: int, tokens: int, size: int) -> None:
        """Admit a call.

        Args:
            call: The call.
            items: The number of its items.
            tokens: Estimated tokens of all items.
            size: Estimated bytes of all prepared items.

        Raises:
            Overloaded: The queue is full or the deadline too near; with `retry_after`.
            Unavailable: No lane is alive, or the scheduler is draining or stopped.
            DeadlineExceeded: The deadline has passed.
            InvalidInput: The call never fits into the queue.
        """
        with self._lock:
            item_seconds = self._costs[call.tower].seconds(1, max(1, tokens // items))
            try:
                self._check_admission(call, items, items * item_seconds, size)
            except EmbedgeError:
                self._counts["refused"] += 1
                raise
            self._counts["calls"] += 1
            call.unprepared, call.item_seconds, call.size = items, item_seconds, size // items
            call.virtual_time = self._queue.virtual[call.priority]
            self._capacity.items += items
            self._capacity.bytes += items * call.size
            self._queued_seconds[call.priority] += items * item_seconds
            self._active[call] = None
            if items > 1 and call.priority == "interactive":
                self._multi_item_calls[call] = None
            self._deadlines.add(call, self._active)

    def push(self, call: Call, entries: Sequence[Entry], *, skipped: int = 0) -> None:
        """Queue prepared entries of an admitted call; `skipped` counts items that failed and will not come."""
        now = self._clock()
        with self._lock:
            if call.dropped is not None:
                return
            cost = self._costs[call.tower]
            for entry in entries:
                entry.pushed = now
                entry.seconds = cost.seconds(1, entry.length)
                self._queued_seconds[call.priority] += entry.seconds - call.item_seconds
                self._capacity.bytes += entry.size - call.size
                self._capacity.ready += entry.size
                self._queue.push(entry)
            call.unprepared -= len(entries)
            self._skip(call, skipped)
            self._work_available.notify()  # one lane: it wakes the next one if entries are left

    def wait_for_capacity(self, call: Call) -> None:
        """Wait until enough prepared entries have left for lanes, or the call is dropped."""
        with self._lock:
            self._capacity_freed.wait_for(lambda: call.dropped is not None or not self._capacity.crowded)

    def take(self, interrupted: Callable[[], bool] = lambda: False) -> Batch[Entry] | None:
        """Wait for work.

        Args:
            interrupted: Called before each look at the queue and after each `interrupt`. True ends the wait.

        Returns:
            The next batch; None after an interruption, or when the scheduler has stopped.
        """
        while True:
            batch, _ = self.poll(wait=True, interrupted=interrupted)
            if batch is not None or self._stopped:
                return batch
            if interrupted():
                with self._lock:
                    self._work_available.notify()  # this lane may have been woken for work: another one takes it
                return None

    def interrupt(self) -> None:
        """Make every lane in `take` call `interrupted` again."""
        with self._lock:
            self._work_available.notify_all()

    def poll(
        self, *, wait: bool = False, interrupted: Callable[[], bool] = lambda: False
    ) -> tuple[Batch[Entry] | None, float]:
        """Return the next batch, or None.

        Args:
            wait: Without a batch, wait for a push or for the returned time.
            interrupted: See `take`.

        Returns:
            The batch, and the time at which to look again; inf if only a push can change anything.
        """
        with self._lock:
            if interrupted():
                return None, FOREVER
            now = self._clock()
            expired = self._expire(now)
            batch, wake = self._form(now)
            if batch is not None and self._queue:
                self._work_available.notify()
            if wait and batch is None and not expired and not self._stopped:
                # Under the same lock as the look at the queue, or a push in between would be missed.
                self._work_available.wait(None if wake == FOREVER else min(_MAX_WAIT_SECONDS, max(0.0, wake - now)))
        for call in expired:
            call.failed(DeadlineExceeded(_EXPIRED))
        return batch, wake

    def done(self, batch: Batch[Entry], seconds: float | None) -> None:
        """Count a taken batch as finished. `seconds` is what it took, for the cost table; None if it failed."""
        if seconds is not None:
            self._costs[batch.towers[0]].observe(len(batch.rows), batch.width, seconds)
        with self._lock:
            self._running -= 1
            model = self._wait_model
            model.running_seconds = model.running_seconds - batch.predicted if self._running else 0.0
            self._work_ended.notify_all()

    def drop(self, call: Call, error: EmbedgeError) -> None:
        """Remove a call's entries from the queue, and refuse those still to come."""
        with self._lock:
            inside = call in self._active
            self._remove(call, error)
        if inside:
            call.failed(error)

    def refuse(self, error: EmbedgeError | None, *, drop: bool = False) -> None:
        """Refuse new calls.

        Args:
            error: Raised for every new call. None admits calls again, unless the scheduler is draining.
            drop: Drop waiting calls with the error, too.
        """
        with self._lock:
            self._refusal = error
            calls = list(self._active) if drop else []
        for call in calls:
            if error is not None:
                self.drop(call, copy.copy(error))

    def drain(self, timeout: float | None) -> bool:
        """Refuse new calls and wait until all admitted work is done. Return False after the timeout, in seconds."""
        with self._lock:
            self._ending = self._ending or Unavailable("the server is shutting down; use another one")
            return self._work_ended.wait_for(lambda: self._capacity.items == 0 and self._running == 0, timeout)

    def stop(self) -> None:
        """Fail all waiting calls and end the wait of every lane."""
        closed = Unavailable("the model is closed")
        with self._lock:
            self._ending = closed
        self.refuse(closed, drop=True)
        with self._lock:
            self._stopped = True
            self._work_available.notify_all()

    @property
    def idle(self) -> bool:
        """Whether no batch runs and at most one call is open. Read without the lock, so it may be out of date."""
        return not self._running and len(self._active) <= 1

    def stats(self) -> dict[str, float]:
        """Return gauges and counters.

        Returns:
            Gauges: waiting_items, waiting_bytes, waiting_seconds (predicted), running_batches, open_calls. Counters
            since the start: calls, refused, expired, batches, items, tokens, padded_tokens.
        """
        with self._lock:
            return {
                "waiting_items": self._capacity.items,
                "waiting_bytes": self._capacity.bytes,
                "waiting_seconds": self._wait_model.seconds(sum(self._queued_seconds.values())),
                "running_batches": self._running,
                "open_calls": len(self._active),
                **self._counts,
            }

    def _check_admission(self, call: Call, items: int, work: float, size: int) -> None:
        """Raise unless a call of `work` seconds and `size` bytes can be admitted."""
        refusal = self._ending or self._refusal
        if refusal is not None:
            raise copy.copy(refusal)  # one shared error would collect the traceback of every raise
        left = call.deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded("the deadline had passed before the call came in; allow more time")
        backlog = self._wait_model.seconds(sum(self._queued_seconds.values()))
        self._capacity.check(items, size, backlog)
        if backlog > self._max_seconds:
            raise Overloaded(
                f"{backlog:.1f} s of work wait, more than {self._max_seconds:g} (max_queue_seconds); come back later",
                retry_after=backlog - self._max_seconds,
            )
        if not self._capacity.items:
            return
        virtual_time = self._queue.virtual["interactive"]
        wait = self._wait_model.until_done(call, work, self._queued_seconds, self._multi_item_calls, virtual_time)
        if wait * _CAUTION > left:
            raise Overloaded(
                f"done in about {wait:.2f} s, but the deadline leaves {left:.2f} s; come back later or allow more time",
                retry_after=wait - left,
            )

    def _form(self, now: float) -> tuple[Batch[Entry] | None, float]:
        anchor = self._queue.anchor()
        if anchor is None:
            return None, self._deadlines.soonest
        free = max(1, self._lanes - self._running)
        entries = self._queue.window(anchor, now, self._costs[anchor.call.tower], self._limits, free=free)
        if len(entries) < self._limits.rows and now < anchor.pushed + self._max_wait:
            return None, anchor.pushed + self._max_wait
        self._queue.take(anchor, entries)
        self._dequeue(entries)
        self._running += 1
        towers, lengths = [e.call.tower for e in entries], [e.length for e in entries]
        batch = Batch(towers, [e.row for e in entries], lengths, entries, now)
        self._record(batch, entries)
        return batch, now

    def _record(self, batch: Batch[Entry], entries: Sequence[Entry]) -> None:
        """Count the batch, and learn how much faster batches are than their rows one at a time."""
        rows, width, tokens = len(entries), batch.width, sum(batch.lengths)
        batch.predicted = self._costs[batch.towers[0]].seconds(rows, width)
        self._wait_model.observe(sum(entry.seconds for entry in entries), batch.predicted)
        for name, amount in (("batches", 1), ("items", rows), ("tokens", tokens), ("padded_tokens", rows * width)):
            self._counts[name] += amount
        self.recent.append((batch.formed, rows, width, tokens, self._capacity.items))

    def _dequeue(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._queued_seconds[entry.call.priority] -= entry.seconds
            self._capacity.bytes -= entry.size
            self._capacity.ready -= entry.size
            self._close_if_done(entry.call)
        self._capacity.items -= len(entries)
        self._capacity_freed.notify_all()
        self._notify_if_empty()

    def _skip(self, call: Call, items: int) -> None:
        call.unprepared -= items
        self._capacity.items -= items
        self._capacity.bytes -= items * call.size
        self._queued_seconds[call.priority] -= items * call.item_seconds
        self._close_if_done(call)
        self._notify_if_empty()

    def _close_if_done(self, call: Call) -> None:
        if not call.unprepared and not call.waiting:
            self._active.pop(call, None)
            self._multi_item_calls.pop(call, None)

    def _notify_if_empty(self) -> None:
        if not self._capacity.items:
            self._queued_seconds = {"interactive": 0.0, "bulk": 0.0}  # removes rounding errors
            self._work_ended.notify_all()

    def _expire(self, now: float) -> list[Call]:
        expired = self._deadlines.expired(now, self._active)
        for call in expired:
            self._counts["expired"] += 1
            self._remove(call, DeadlineExceeded(_EXPIRED))
        return expired

    def _remove(self, call: Call, error: EmbedgeError) -> None:
        call.dropped = error
        self._dequeue(self._queue.remove(call))
        self._skip(call, call.unprepared)

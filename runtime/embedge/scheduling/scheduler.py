"""The scheduler: who is let in, what runs next, what is dropped. No threads of its own; the clock is injected."""

from __future__ import annotations

import copy
import heapq
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from embedge.batches.batch import Batch
from embedge.errors import DeadlineExceeded, EmbedgeError, Overloaded, Unavailable
from embedge.request import Priority
from embedge.scheduling.capacity import QueueCapacity
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.fair_queue import BULK_TURN, FOREVER, Call, Entry, FairQueue
from embedge.scheduling.forming import Limits

__all__ = ["Scheduler"]

# Longest wait in one go, in seconds: the operating system has a limit far above it, deadlines have none.
_MAX_WAIT_SECONDS = 3600.0
# Weight of the newest batch in the observed speed-up of batches.
_LEARNING_RATE = 0.1
# A call is let in if it were in time even with its wait predicted too short by this factor.
_CAUTION = 1.5
_EXPIRED = "the deadline passed while the call waited; allow more time"
_COUNTED = ("calls", "refused", "expired", "batches", "items", "tokens", "padded_tokens")


class Scheduler:
    """Bounded, fair, and blocking in `take` and `drain` only. Safe to call from any thread."""

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
        """`costs`: what batches of each tower cost. `capacity`: an empty one, which the scheduler owns from now on."""
        self._costs = costs
        self._limits = limits
        self._capacity = capacity
        self._max_seconds = max_seconds
        self._max_wait = max_wait
        self._lanes = lanes
        self._clock = clock
        # Guards every field below. Held by callers for microseconds, and never while something else is waited for.
        self._lock = threading.Lock()
        self._work_available = threading.Condition(self._lock)  # lanes wait for entries
        self._work_ended = threading.Condition(self._lock)  # whoever drains waits for the end of all work
        self._capacity_freed = threading.Condition(
            self._lock
        )  # whoever prepares a large call waits for lanes to take more
        self._queue = FairQueue()
        # Weak, so that a call which ended does not stay with all its results until its deadline.
        self._deadlines: list[tuple[float, int, weakref.ref[Call]]] = []
        self._order = itertools.count()  # settles ties the same way every time
        self._active: dict[Call, None] = {}  # a set would not come in the same order every time
        self._queued_seconds: dict[Priority, float] = {"interactive": 0.0, "bulk": 0.0}
        self._multi_item: dict[Call, None] = {}  # the interactive ones of the active calls that have several items
        self._running = 0
        # What recent batches would have taken one row at a time, and what they take; older ones fade.
        self._single_seconds = self._batched_seconds = 0.0
        self._running_seconds = 0.0  # predicted seconds of the batches that run
        self._counts = dict.fromkeys(_COUNTED, 0)
        self._refusal: EmbedgeError | None = None
        self._ending: EmbedgeError | None = None  # as _refusal, but for good
        self._stopped = False
        # The last batches: (formed, rows, width, real tokens, items that then waited); read by whoever draws them.
        self.recent: deque[tuple[float, int, int, int, int]] = deque(maxlen=4096)

    def admit(self, call: Call, items: int, tokens: int, size: int) -> None:
        """Let in a call of `items` items, about `tokens` tokens and `size` bytes, or raise what stands against it.

        Raises Overloaded (with retry-after), Unavailable, DeadlineExceeded, InvalidInput (too large for any queue).
        """
        with self._lock:
            each = self._costs[call.tower].seconds(1, max(1, tokens // items))
            try:
                self._check_admission(call, items, items * each, size)
            except EmbedgeError:
                self._counts["refused"] += 1
                raise
            self._counts["calls"] += 1
            call.unprepared, call.item_seconds, call.size = items, each, size // items
            call.virtual_time = self._queue.virtual[call.priority]
            self._capacity.items += items
            self._capacity.bytes += items * call.size
            self._queued_seconds[call.priority] += items * each
            self._active[call] = None
            if items > 1 and call.priority == "interactive":
                self._multi_item[call] = None
            self._watch_deadline(call)

    def push(self, call: Call, entries: Sequence[Entry], *, skipped: int = 0) -> None:
        """Queue prepared entries of an admitted call; `skipped` more of its items will not come."""
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
            self._work_available.notify()  # one lane: it wakes the next if it leaves something over

    def wait_for_capacity(self, call: Call) -> None:
        """Wait until preparing more of a large call is not too far ahead of the lanes, or the call is over."""
        with self._lock:
            self._capacity_freed.wait_for(lambda: call.dropped is not None or not self._capacity.crowded)

    def take(self, interrupted: Callable[[], bool] = lambda: False) -> Batch[Entry] | None:
        """Wait for work and return the next batch; None when the scheduler has stopped, or the lane is called away.

        interrupted: says whether it is. It is asked before each look at the queue, and after each `interrupt`.
        """
        while True:
            batch, _ = self.poll(wait=True, interrupted=interrupted)
            if batch is not None or self._stopped:
                return batch
            if interrupted():
                with self._lock:
                    self._work_available.notify()  # it may have been woken for work, which is another lane's now
                return None

    def interrupt(self) -> None:
        """Let every lane that waits in `take` ask whether it is called away."""
        with self._lock:
            self._work_available.notify_all()

    def poll(
        self, *, wait: bool = False, interrupted: Callable[[], bool] = lambda: False
    ) -> tuple[Batch[Entry] | None, float]:
        """Return the next batch, or None and the time at which to look again (inf: when something is pushed).

        With `wait`, that time, or a push, is waited for before None is returned. `interrupted`: see `take`.
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
                # Under the same lock as the look at the queue, or a push in between would go unheard.
                self._work_available.wait(None if wake == FOREVER else min(_MAX_WAIT_SECONDS, max(0.0, wake - now)))
        for call in expired:
            call.failed(DeadlineExceeded(_EXPIRED))
        return batch, wake

    def done(self, batch: Batch[Entry], seconds: float | None) -> None:
        """Count a taken batch as finished; `seconds`, if it ran well, teach the cost table."""
        if seconds is not None:
            self._costs[batch.towers[0]].observe(len(batch.rows), batch.width, seconds)
        with self._lock:
            self._running -= 1
            self._running_seconds = self._running_seconds - batch.predicted if self._running else 0.0
            self._work_ended.notify_all()

    def drop(self, call: Call, error: EmbedgeError) -> None:
        """Take a call's waiting entries out of the queue, and refuse those still to come."""
        with self._lock:
            inside = call in self._active
            self._remove(call, error)
        if inside:
            call.failed(error)

    def refuse(self, error: EmbedgeError | None, *, drop: bool = False) -> None:
        """Refuse new calls with `error` (None: admit again, unless draining); with `drop`, waiting ones get it too."""
        with self._lock:
            self._refusal = error
            calls = list(self._active) if drop else []
        for call in calls:
            if error is not None:
                self.drop(call, copy.copy(error))

    def drain(self, timeout: float | None) -> bool:
        """Refuse new calls and wait until all admitted work is done; False if time ran out."""
        with self._lock:
            self._ending = self._ending or Unavailable("the server is shutting down; use another one")
            return self._work_ended.wait_for(lambda: self._capacity.items == 0 and self._running == 0, timeout)

    def stop(self) -> None:
        """Wake every lane with None; whoever still waits is told."""
        closed = Unavailable("the model is closed")
        with self._lock:
            self._ending = closed
        self.refuse(closed, drop=True)
        with self._lock:
            self._stopped = True
            self._work_available.notify_all()

    @property
    def idle(self) -> bool:
        """Whether no batch runs, and at most one call is open. Read without the lock: a moment later it may be not."""
        return not self._running and len(self._active) <= 1

    def stats(self) -> dict[str, float]:
        """Return what waits and runs now, and what was counted since the start.

        Now: waiting_items, waiting_bytes, waiting_seconds (of work, on the clock), running_batches, open_calls. Since
        the start: calls, refused and expired calls, batches, items, tokens and padded_tokens (computed) of the batches.
        """
        with self._lock:
            return {
                "waiting_items": self._capacity.items,
                "waiting_bytes": self._capacity.bytes,
                "waiting_seconds": self._wall_seconds(sum(self._queued_seconds.values())),
                "running_batches": self._running,
                "open_calls": len(self._active),
                **self._counts,
            }

    def _check_admission(self, call: Call, items: int, work: float, size: int) -> None:
        """Raise what stands against a call of `work` seconds and `size` bytes."""
        refusal = self._ending or self._refusal
        if refusal is not None:
            raise copy.copy(refusal)  # one raised again and again would hold on to every frame it passed
        left = call.deadline - self._clock()
        if left <= 0:
            raise DeadlineExceeded("the deadline had passed before the call came in; allow more time")
        backlog = self._wall_seconds(sum(self._queued_seconds.values()))
        self._capacity.check(items, size, backlog)
        if backlog > self._max_seconds:
            raise Overloaded(
                f"{backlog:.1f} s of work wait, more than {self._max_seconds:g} (max_queue_seconds); come back later",
                retry_after=backlog - self._max_seconds,
            )
        if self._capacity.items and (wait := self._predicted_wait(call, work)) * _CAUTION > left:
            raise Overloaded(
                f"done in about {wait:.2f} s, but the deadline leaves {left:.2f} s; come back later or allow more time",
                retry_after=wait - left,
            )

    def _predicted_wait(self, call: Call, work: float) -> float:
        """Return the seconds in which a new call of `work` seconds is done, about.

        All interactive work that waits comes before it, but for what calls of several items have left when the new one
        has had its share. Bulk comes before an interactive call in its turns only.
        """
        virtual = self._queue.virtual["interactive"]
        ahead = self._queued_seconds["interactive"]
        for other in self._multi_item:
            left = other.queued_seconds + other.unprepared * other.item_seconds
            ahead -= max(0.0, left - max(0.0, virtual + work - other.virtual_time))
        bulk = self._queued_seconds["bulk"]
        if call.priority == "interactive":
            bulk = min(bulk, ahead / BULK_TURN)
        return self._wall_seconds(ahead + bulk + work) + self._running_seconds / self._lanes

    def _wall_seconds(self, work: float) -> float:
        """Return the seconds on the clock that `work` seconds (of entries one at a time on one lane) take here."""
        speedup = max(1.0, self._single_seconds / self._batched_seconds) if self._batched_seconds else 1.0
        return work / (self._lanes * speedup)

    def _watch_deadline(self, call: Call) -> None:
        """Remember a call's deadline; calls that ended long before theirs are forgotten now and then."""
        if call.deadline == FOREVER:
            return
        if len(self._deadlines) > 2 * len(self._active) + 64:
            self._deadlines = [watched for watched in self._deadlines if watched[2]() in self._active]
            heapq.heapify(self._deadlines)
        heapq.heappush(self._deadlines, (call.deadline, next(self._order), weakref.ref(call)))

    def _form(self, now: float) -> tuple[Batch[Entry] | None, float]:
        anchor = self._queue.anchor()
        if anchor is None:
            return None, self._deadlines[0][0] if self._deadlines else FOREVER
        free = max(1, self._lanes - self._running)
        entries = self._queue.window(anchor, now, self._costs[anchor.call.tower], self._limits, free=free)
        if len(entries) < self._limits.rows and now < anchor.pushed + self._max_wait:
            return None, anchor.pushed + self._max_wait
        self._queue.take(anchor, entries)
        self._leave(entries)
        self._running += 1
        towers, lengths = [e.call.tower for e in entries], [e.length for e in entries]
        batch = Batch(towers, [e.row for e in entries], lengths, entries, now)
        self._note(batch, entries)
        return batch, now

    def _note(self, batch: Batch[Entry], entries: Sequence[Entry]) -> None:
        """Count the batch, and learn how much faster batches are than their rows one at a time."""
        rows, width, tokens = len(entries), batch.width, sum(batch.lengths)
        batch.predicted = self._costs[batch.towers[0]].seconds(rows, width)
        self._running_seconds += batch.predicted
        self._single_seconds += sum(entry.seconds for entry in entries) - _LEARNING_RATE * self._single_seconds
        self._batched_seconds += batch.predicted - _LEARNING_RATE * self._batched_seconds
        for name, amount in (("batches", 1), ("items", rows), ("tokens", tokens), ("padded_tokens", rows * width)):
            self._counts[name] += amount
        self.recent.append((batch.formed, rows, width, tokens, self._capacity.items))

    def _leave(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._queued_seconds[entry.call.priority] -= entry.seconds
            self._capacity.bytes -= entry.size
            self._capacity.ready -= entry.size
            self._end(entry.call)
        self._capacity.items -= len(entries)
        self._capacity_freed.notify_all()
        self._rest()

    def _skip(self, call: Call, items: int) -> None:
        call.unprepared -= items
        self._capacity.items -= items
        self._capacity.bytes -= items * call.size
        self._queued_seconds[call.priority] -= items * call.item_seconds
        self._end(call)
        self._rest()

    def _end(self, call: Call) -> None:
        if not call.unprepared and not call.waiting:
            self._active.pop(call, None)
            self._multi_item.pop(call, None)

    def _rest(self) -> None:
        if not self._capacity.items:
            self._queued_seconds = {"interactive": 0.0, "bulk": 0.0}  # what rounding left over
            self._work_ended.notify_all()

    def _expire(self, now: float) -> list[Call]:
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            call = heapq.heappop(self._deadlines)[2]()
            if call is not None and call in self._active:
                self._counts["expired"] += 1
                self._remove(call, DeadlineExceeded(_EXPIRED))
                expired.append(call)
        return expired

    def _remove(self, call: Call, error: EmbedgeError) -> None:
        call.dropped = error
        self._leave(self._queue.remove(call))
        self._skip(call, call.unprepared)

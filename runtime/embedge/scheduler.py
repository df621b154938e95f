"""The scheduler: admission, the queue, and the choice of what runs next. No threads of its own; the clock is injected.

A call brings entries; lanes take batches of them. Order is fair between calls: an entry's tag is the virtual time
at which its call's share of the machine would have reached it, so a large call interleaves with small ones. The
entry with the smallest tag (the oldest) anchors the next batch and is always in it. Virtual time grows with every
batch and new tags are never before it, so every waiting entry becomes the oldest after finitely many batches.
"""

from __future__ import annotations

import heapq
import threading
import time
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Callable, Sequence

from embedge.batch import Batch, Limits, Row, form_batch
from embedge.cost import CostTable
from embedge.errors import DeadlineExceeded, EmbedgeError, Overloaded, Unavailable
from embedge.request import Priority

__all__ = ["Call", "Entry", "Scheduler"]

# How much slower a bulk call moves through virtual time than an interactive one.
_BULK_WEIGHT = 8.0
_FOREVER = float("inf")

Waiting = tuple[int, int, "Entry"]


class Call(ABC):
    """One request's way through the queue.

    The fields after `priority` belong to the scheduler and change only under its lock.
    """

    def __init__(self, tower: str, *, deadline: float | None, priority: Priority) -> None:
        self.tower = tower
        self.deadline = _FOREVER if deadline is None else deadline
        self.priority = priority
        self.next_tag = 0.0
        self.owed = 0
        self.waiting: set[Entry] = set()
        self.dropped: EmbedgeError | None = None

    @abstractmethod
    def failed(self, entries: Sequence[Entry], error: EmbedgeError) -> None:
        """Hear of entries that will never run. Called outside the scheduler's lock, once for each entry."""


class Entry:
    """One item of a call that waits for a lane."""

    __slots__ = ("call", "index", "length", "pushed", "row", "seconds", "sequence", "tag")

    def __init__(self, call: Call, index: int, row: Row, length: int) -> None:
        self.call = call
        self.index = index
        self.row = row
        self.length = length
        self.pushed = self.seconds = self.tag = 0.0
        self.sequence = 0


class Scheduler:
    """Bounded, fair, and never blocking but in `take` and `drain`. Safe to call from any thread."""

    def __init__(
        self,
        cost: CostTable,
        limits: Limits,
        *,
        max_items: int,
        max_seconds: float,
        max_wait: float = 0.0,
        lanes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cost = cost
        self._limits = limits
        self._max_items = max_items
        self._max_seconds = max_seconds
        self._max_wait = max_wait
        self._lanes = lanes
        self._clock = clock
        # Guards every field below. Held by callers for a few microseconds a call, never while anything else is waited for.
        self._changed = threading.Condition()
        self._by_length: dict[str, list[Waiting]] = {}
        self._by_tag: dict[Priority, list[tuple[float, int, Entry]]] = {"interactive": [], "bulk": []}
        self._deadlines: list[tuple[float, int, Call]] = []
        self._active: set[Call] = set()
        self._sequence = 0
        self._items = 0
        self._seconds = 0.0
        self._running = 0
        self._now = 0.0
        self._last: Priority = "interactive"
        self._refusal: EmbedgeError | None = None
        self._stopped = False

    def admit(self, call: Call, items: int, tokens: int) -> None:
        """Let a call of `items` items and about `tokens` tokens in, or raise Overloaded, Unavailable, DeadlineExceeded."""
        with self._changed:
            if self._refusal is not None:
                raise self._refusal
            now = self._clock()
            if now >= call.deadline:
                raise DeadlineExceeded("the deadline had passed before the call came in; allow more time")
            work = items * self._cost.seconds(1, max(1, tokens // max(1, items)))
            backlog = self._seconds / self._lanes
            if self._items + items > self._max_items:
                raise Overloaded(
                    f"the queue holds {self._items:,} of at most {self._max_items:,} items (max_queue_items) "
                    f"and {items:,} more do not fit; come back in {backlog:.1f} s or send fewer",
                    retry_after=backlog,
                )
            if self._items and backlog > self._max_seconds:
                raise Overloaded(f"{backlog:.1f} s of work are waiting; come back later", retry_after=backlog)
            wait = min(backlog, len(self._active) * work) + work / self._lanes
            if now + wait > call.deadline and self._items:
                raise Overloaded(
                    f"about {wait:.2f} s are needed and the deadline leaves {call.deadline - now:.2f} s; "
                    "come back later or allow more time",
                    retry_after=backlog,
                )
            call.owed = items
            self._items += items
            self._active.add(call)
            self._watch(call)

    def push(self, call: Call, entries: Sequence[Entry], *, skipped: int = 0) -> None:
        """Queue prepared entries of an admitted call; `skipped` more of its items will not come."""
        with self._changed:
            if call.dropped is None:
                self._settle(call, skipped)
                for entry in entries:
                    self._insert(entry)
                self._changed.notify(len(entries))
                return
        call.failed(entries, call.dropped)

    def take(self) -> Batch | None:
        """Wait for work and return the next batch; None when the scheduler has stopped."""
        while True:
            batch, wake = self.poll()
            if batch is not None:
                return batch
            with self._changed:
                if self._stopped:
                    return None
                if not any(self._by_tag.values()) or wake < _FOREVER:
                    self._changed.wait(None if wake == _FOREVER else max(0.0, wake - self._clock()))

    def poll(self) -> tuple[Batch | None, float]:
        """Return the next batch, or None and the time at which to look again (inf: when something is pushed)."""
        with self._changed:
            now = self._clock()
            expired = self._expire(now)
            batch, wake = self._form(now)
        for call, entries in expired:
            call.failed(entries, DeadlineExceeded("the deadline passed while the item waited; allow more time"))
        return batch, wake

    def done(self, batch: Batch, seconds: float | None) -> None:
        """Count a taken batch as finished; `seconds`, if it ran well, teach the cost table."""
        if seconds is not None:
            self._cost.observe(len(batch.rows), batch.width, seconds)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()

    def drop(self, call: Call, error: EmbedgeError) -> None:
        """Take a call's waiting entries out of the queue, and refuse those still to come."""
        with self._changed:
            entries = self._remove(call, error)
        if entries:
            call.failed(entries, error)

    def refuse(self, error: EmbedgeError | None, *, drop: bool = False) -> None:
        """Refuse new calls with `error` (None: admit again); with `drop`, waiting ones get it too."""
        with self._changed:
            self._refusal = error
            calls = list(self._active) if drop else []
        for call in calls:
            if error is not None:
                self.drop(call, error)

    def drain(self, timeout: float | None) -> bool:
        """Refuse new calls and wait until all admitted work is done; False if time ran out."""
        self.refuse(Unavailable("the server is shutting down; use another one"))
        with self._changed:
            return self._changed.wait_for(lambda: self._items == 0 and self._running == 0, timeout)

    def stop(self) -> None:
        """Wake every lane with None; whoever still waits is told."""
        self.refuse(Unavailable("the model is closed"), drop=True)
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def stats(self) -> dict[str, float]:
        """Return the items and predicted seconds that wait, the batches that run and the calls inside."""
        with self._changed:
            return {
                "items": self._items,
                "seconds": self._seconds,
                "running": self._running,
                "calls": len(self._active),
            }

    def _watch(self, call: Call) -> None:
        """Remember a call's deadline; calls that ended long before theirs are forgotten now and then."""
        if call.deadline == _FOREVER:
            return
        if len(self._deadlines) > 2 * len(self._active) + 64:
            self._deadlines = [watched for watched in self._deadlines if watched[2] in self._active]
            heapq.heapify(self._deadlines)
        self._sequence += 1
        heapq.heappush(self._deadlines, (call.deadline, self._sequence, call))

    def _insert(self, entry: Entry) -> None:
        call = entry.call
        seconds = entry.seconds = self._cost.seconds(1, entry.length)
        self._sequence += 1
        entry.sequence = self._sequence
        entry.pushed = self._clock()
        entry.tag = call.next_tag = max(call.next_tag, self._now)
        call.next_tag += seconds * (_BULK_WEIGHT if call.priority == "bulk" else 1.0)
        call.owed -= 1
        call.waiting.add(entry)
        insort(self._by_length.setdefault(call.tower, []), (entry.length, entry.sequence, entry))
        heapq.heappush(self._by_tag[call.priority], (entry.tag, entry.sequence, entry))
        self._seconds += seconds

    def _form(self, now: float) -> tuple[Batch | None, float]:
        anchor = self._anchor()
        if anchor is None:
            return None, self._deadlines[0][0] if self._deadlines else _FOREVER
        queue = self._by_length[anchor.call.tower]
        low, high = self._window(queue, anchor, now)
        if high - low < self._limits.rows and now < anchor.pushed + self._max_wait:
            return None, anchor.pushed + self._max_wait
        entries = [entry for _, _, entry in queue[low:high]]
        del queue[low:high]
        self._leave(entries)
        self._last = anchor.call.priority
        batch = Batch(anchor.call.tower, [e.row for e in entries], [e.length for e in entries], entries, now)
        self._running += 1
        self._now = max(self._now, anchor.tag) + self._cost.seconds(len(entries), batch.width) / (len(self._active) + 1)
        return batch, now

    def _window(self, queue: list[Waiting], anchor: Entry, now: float) -> tuple[int, int]:
        """Return the part of the queue that rides with the anchor; only its neighbourhood is looked at."""
        place = bisect_left(queue, (anchor.length, anchor.sequence))
        start = max(0, place - self._limits.rows)
        near = [entry for _, _, entry in queue[start : place + self._limits.rows]]
        lengths = [entry.length for entry in near]
        slack = [entry.call.deadline - now for entry in near]
        low, high = form_batch(lengths, place - start, slack, self._cost, self._limits)
        return start + low, start + high

    def _anchor(self) -> Entry | None:
        """Return the oldest waiting entry; bulk does not anchor twice running while interactive work waits."""
        tops: dict[Priority, Entry] = {}
        for priority, heap in self._by_tag.items():
            while heap and heap[0][2] not in heap[0][2].call.waiting:
                heapq.heappop(heap)
            if heap:
                tops[priority] = heap[0][2]
        if len(tops) == 2 and self._last == "bulk":
            return tops["interactive"]
        return min(tops.values(), key=lambda entry: (entry.tag, entry.sequence), default=None)

    def _leave(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.call.waiting.discard(entry)
            self._seconds = max(0.0, self._seconds - entry.seconds)
            self._items -= 1
            self._settle(entry.call, 0)

    def _settle(self, call: Call, skipped: int) -> None:
        call.owed -= skipped
        self._items -= skipped
        if not call.owed and not call.waiting:
            self._active.discard(call)
            self._changed.notify_all()

    def _expire(self, now: float) -> list[tuple[Call, list[Entry]]]:
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            call = heapq.heappop(self._deadlines)[2]
            error = DeadlineExceeded("the deadline passed while the call waited; allow more time")
            if call in self._active and (entries := self._remove(call, error)):
                expired.append((call, entries))
        return expired

    def _remove(self, call: Call, error: EmbedgeError) -> list[Entry]:
        entries = sorted(call.waiting, key=lambda entry: entry.sequence)
        queue = self._by_length.get(call.tower, [])
        if len(entries) > len(queue) // 8:
            queue[:] = [waiting for waiting in queue if waiting[2].call is not call]
        else:
            for entry in entries:
                del queue[bisect_left(queue, (entry.length, entry.sequence))]
        call.dropped = error
        self._leave(entries)
        self._settle(call, call.owed)
        return entries

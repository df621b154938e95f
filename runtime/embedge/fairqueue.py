"""The queue: waiting entries in fair order and by length. A plain data structure: no lock, no clock.

Order is self-clocked fair queueing between calls. An entry's tag is the virtual time at which it would be done if its
call had its fair share: the later of virtual time now and the call's last tag, plus the entry's own predicted
seconds. The smallest tag is the oldest entry; it anchors the next batch and is always in it, and virtual time moves
up to its tag. So a large call interleaves with small ones, and short work passes long work that came just before it.

Why nothing starves: every new tag is above virtual time by the entry's own cost. A waiting entry with tag T can only
be passed by entries with smaller tags; each of those raises virtual time, or takes one of the finitely many places
below T, and the queue is bounded. So after finitely many batches T is the smallest.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections.abc import Sequence

from embedge.batch import Limits, Row, Seconds, form_batch
from embedge.errors import EmbedgeError
from embedge.request import Priority

__all__ = ["FOREVER", "Call", "Entry", "FairQueue"]

FOREVER = float("inf")
# How much slower a bulk call moves through virtual time than an interactive one.
_BULK_WEIGHT = 8.0

Waiting = tuple[int, int, "Entry"]


class Call(ABC):
    """One request's way through the queue.

    The fields after `priority` belong to the scheduler and change only under its lock. owed: items admitted but not
    pushed yet. each: predicted seconds of one of them. left: seconds of those that wait. dropped: why no more may come.
    """

    def __init__(self, tower: str, *, deadline: float | None, priority: Priority) -> None:
        self.tower = tower
        self.deadline = FOREVER if deadline is None else deadline
        self.priority = priority
        self.last_tag = 0.0
        self.owed = 0
        self.each = self.left = 0.0
        self.waiting: set[Entry] = set()
        self.dropped: EmbedgeError | None = None

    @abstractmethod
    def failed(self, error: EmbedgeError) -> None:
        """Hear that the call is dropped: entries that wait will not run. Called outside the scheduler's lock."""


class Entry:
    """One item of a call that waits for a lane. `length` in tokens, `seconds` predicted, `pushed` on the clock."""

    __slots__ = ("call", "index", "length", "pushed", "row", "seconds", "sequence", "tag")

    def __init__(self, call: Call, index: int, row: Row, length: int) -> None:
        self.call = call
        self.index = index
        self.row = row
        self.length = length
        self.pushed = self.seconds = self.tag = 0.0
        self.sequence = 0


class FairQueue:
    """Entries that wait, in tag order and sorted by length."""

    def __init__(self) -> None:
        self.virtual = 0.0
        self._sequence = 0
        self._by_length: dict[str, list[Waiting]] = {}
        # Entries that left stay in the heap until they come to its top.
        self._by_tag: dict[Priority, list[tuple[float, int, Entry]]] = {"interactive": [], "bulk": []}
        self._last: Priority = "interactive"

    def push(self, entry: Entry) -> None:
        """Add an entry, whose `seconds` are set, behind the others of its call."""
        call = entry.call
        weight = _BULK_WEIGHT if call.priority == "bulk" else 1.0
        self._sequence += 1
        entry.sequence = self._sequence
        entry.tag = call.last_tag = max(call.last_tag, self.virtual) + weight * entry.seconds
        call.left += entry.seconds
        call.waiting.add(entry)
        insort(self._by_length.setdefault(call.tower, []), (entry.length, entry.sequence, entry))
        heapq.heappush(self._by_tag[call.priority], (entry.tag, entry.sequence, entry))

    def anchor(self) -> Entry | None:
        """Return the oldest entry; bulk does not anchor twice running while interactive work waits."""
        tops: dict[Priority, Entry] = {}
        for priority, heap in self._by_tag.items():
            while heap and heap[0][2] not in heap[0][2].call.waiting:
                heapq.heappop(heap)
            if heap:
                tops[priority] = heap[0][2]
        if len(tops) == 2 and self._last == "bulk":
            return tops["interactive"]
        return min(tops.values(), key=lambda entry: (entry.tag, entry.sequence), default=None)

    def window(self, anchor: Entry, now: float, cost: Seconds, limits: Limits, *, free: int) -> list[Entry]:
        """Return the entries that ride with the anchor. While `free` lanes are idle, each takes its share at most."""
        queue = self._by_length[anchor.call.tower]
        rows = min(limits.rows, -(-len(queue) // free))
        place = bisect_left(queue, (anchor.length, anchor.sequence))
        start = max(0, place - rows)
        near = [entry for _, _, entry in queue[start : place + rows]]
        low, high = form_batch(
            [entry.length for entry in near],
            place - start,
            [entry.call.deadline - now for entry in near],
            cost,
            Limits(rows, limits.tokens),
        )
        return near[low:high]

    def take(self, anchor: Entry, entries: Sequence[Entry]) -> None:
        """Take a window out; virtual time moves up to its anchor."""
        queue = self._by_length[anchor.call.tower]
        low = bisect_left(queue, (entries[0].length, entries[0].sequence))
        del queue[low : low + len(entries)]
        self._forget(entries)
        self.virtual = max(self.virtual, anchor.tag)
        self._last = anchor.call.priority

    def remove(self, call: Call) -> list[Entry]:
        """Take all entries of a call out, and return them in the order in which they came."""
        entries = sorted(call.waiting, key=lambda entry: entry.sequence)
        queue = self._by_length.get(call.tower, [])
        if len(entries) > len(queue) // 8:
            queue[:] = [waiting for waiting in queue if waiting[2].call is not call]
        else:
            for entry in entries:
                del queue[bisect_left(queue, (entry.length, entry.sequence))]
        self._forget(entries)
        return entries

    def __bool__(self) -> bool:
        return any(self._by_length.values())

    def _forget(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            entry.call.waiting.discard(entry)
            entry.call.left -= entry.seconds

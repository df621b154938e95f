"""The queue: waiting entries in fair order and by length. A plain data structure: no lock, no clock.

Order is start-time fair queueing between calls. A call pays for what is taken of it: its own virtual time moves on by
the predicted seconds of every entry that leaves for a lane, company of another's batch included. A call that comes in,
or comes back, starts at virtual time now. The call that has paid least is first: its oldest entry anchors the next
batch and is always in it, and virtual time moves on past the place where that call stood. So calls of one item run in
the order in which they come, and a large call gives way to them after each batch that was mostly its own.

While interactive and bulk work both wait, bulk anchors one batch in `BULK_TURN + 1`.

Why nothing starves: a call at place T can only be passed by calls whose place is below T. Each time, virtual time
moves on, where every new call starts, or one of the places below T is used up, and the queue is bounded. So after
finitely many batches T is the least.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence

from embedge.batch import Limits, Row, Seconds, form_batch
from embedge.errors import EmbedgeError
from embedge.request import Priority

__all__ = ["BULK_TURN", "FOREVER", "Call", "Entry", "FairQueue"]

FOREVER = float("inf")
# Batches in a row that interactive work may anchor while bulk waits.
BULK_TURN = 8

Waiting = tuple[int, int, "Entry"]
Listed = tuple[float, int, "Call"]


class Call(ABC):
    """One request's way through the queue.

    The fields after `priority` belong to the scheduler and change only under its lock. paid: the virtual time up to
    which the call has had its share. listed: whether the queue has it in tag order. owed: items admitted but not pushed
    yet. each: predicted seconds of one of them. left: seconds of those that wait. dropped: why no more may come.
    """

    def __init__(self, tower: str, *, deadline: float | None, priority: Priority) -> None:
        self.tower = tower
        self.deadline = FOREVER if deadline is None else deadline
        self.priority = priority
        self.paid = 0.0
        self.listed = False
        self.owed = 0
        self.each = self.left = 0.0
        self.waiting: OrderedDict[Entry, None] = OrderedDict()  # in the order in which they came
        self.dropped: EmbedgeError | None = None

    @abstractmethod
    def failed(self, error: EmbedgeError) -> None:
        """Hear that the call is dropped: entries that wait will not run. Called outside the scheduler's lock."""


class Entry:
    """One item of a call that waits for a lane. `length` in tokens, `seconds` predicted, `pushed` on the clock."""

    __slots__ = ("call", "index", "length", "pushed", "row", "seconds", "sequence")

    def __init__(self, call: Call, index: int, row: Row, length: int) -> None:
        self.call = call
        self.index = index
        self.row = row
        self.length = length
        self.pushed = self.seconds = 0.0
        self.sequence = 0


class FairQueue:
    """Entries that wait: by call in tag order, and sorted by length."""

    def __init__(self) -> None:
        self.virtual: dict[Priority, float] = {"interactive": 0.0, "bulk": 0.0}
        self._sequence = 0
        self._by_length: dict[str, list[Waiting]] = {}
        # Each listed call once, at a place that it has or had: it is corrected when it comes to the top.
        self._by_place: dict[Priority, list[Listed]] = {"interactive": [], "bulk": []}
        self._bulk_waits = 0  # batches in a row that interactive work anchored while bulk waited

    def push(self, entry: Entry) -> None:
        """Add an entry, whose `seconds` are set, behind the others of its call."""
        call = entry.call
        self._sequence += 1
        entry.sequence = self._sequence
        if not call.waiting:
            call.paid = max(call.paid, self.virtual[call.priority])
        call.left += entry.seconds
        call.waiting[entry] = None
        insort(self._by_length.setdefault(call.tower, []), (entry.length, entry.sequence, entry))
        if not call.listed:
            self._list(call, entry)

    def anchor(self) -> Entry | None:
        """Return the oldest entry of the call that is first."""
        interactive, bulk = self._first("interactive"), self._first("bulk")
        if interactive is None or (bulk is not None and self._bulk_waits >= BULK_TURN):
            return bulk
        return interactive

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
        """Take a window out; each entry's call pays for it, and virtual time moves on."""
        priority = anchor.call.priority
        # Half-way into the anchor: whoever comes now is behind what came before it, and before what the call has left.
        self.virtual[priority] = max(self.virtual[priority], anchor.call.paid + anchor.seconds / 2)
        queue = self._by_length[anchor.call.tower]
        low = bisect_left(queue, (entries[0].length, entries[0].sequence))
        del queue[low : low + len(entries)]
        self._forget(entries)
        for entry in entries:
            entry.call.paid += entry.seconds
        self._bulk_waits = self._bulk_waits + 1 if priority == "interactive" and self._first("bulk") else 0

    def remove(self, call: Call) -> list[Entry]:
        """Take all entries of a call out, and return them in the order in which they came."""
        entries = list(call.waiting)
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
            del entry.call.waiting[entry]
            entry.call.left -= entry.seconds

    def _list(self, call: Call, oldest: Entry) -> None:
        heap = self._by_place[call.priority]
        if len(heap) > 2 * sum(map(len, self._by_length.values())) + 64:
            self._tidy(heap)
        call.listed = True
        heapq.heappush(heap, (call.paid, oldest.sequence, call))

    def _tidy(self, heap: list[Listed]) -> None:
        """Forget calls that left from the middle of the heap, so that it does not keep what is long done."""
        for _, _, call in heap:
            call.listed = bool(call.waiting)
        heap[:] = [listed for listed in heap if listed[2].listed]
        heapq.heapify(heap)

    def _first(self, priority: Priority) -> Entry | None:
        """Return the oldest entry of the priority's first call."""
        heap = self._by_place[priority]
        while heap:
            paid, _, call = heap[0]
            if not call.waiting:
                heapq.heappop(heap)
                call.listed = False
                continue
            oldest = next(iter(call.waiting))
            if paid == call.paid:
                return oldest
            heapq.heapreplace(heap, (call.paid, oldest.sequence, call))
        return None

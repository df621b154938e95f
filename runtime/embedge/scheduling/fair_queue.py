"""The queue: waiting entries in fair order and by length. A plain data structure: no lock, no clock.

Order is start-time fair queueing between calls. A call pays for what is taken of it: its own virtual time moves on by
the predicted seconds of every entry that leaves for a lane, company of another's batch included. A call that comes in,
or comes back, starts at virtual time now. The call that has paid least is first: its oldest entry anchors the next
batch and is always in it, and virtual time moves on past the place where that call stood. So calls of one item run in
the order in which they come, and a large call gives way to them after each batch that was mostly its own.

One exception: smaller calls may overtake an interactive entry that is first, as long as all of them together take no
more than `OVERTAKING_SHARE` of its own seconds. So a short text does not wait for every long one before it, and no wait
exceeds the one in order of arrival by more than about that share.

While interactive and bulk work both wait, bulk anchors one batch in `BULK_TURN + 1`.

Why nothing starves: before a call at place T only those run whose place is below T, and the little that these let pass.
Each time, virtual time moves on, where every new call starts, or one of the places below T is used up, and the queue is
bounded. So after finitely many batches T is the least.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence

from embedge.batches.batch import Row
from embedge.errors import EmbedgeError
from embedge.request import Priority
from embedge.scheduling.forming import CostModel, Limits, form_batch

__all__ = ["BULK_TURN", "FOREVER", "OVERTAKING_SHARE", "Call", "Entry", "FairQueue"]

FOREVER = float("inf")
# Batches in a row that interactive work may anchor while bulk waits.
BULK_TURN = 8
# Work that may pass an entry which is first, as a share of its own. Admission allows for waits predicted too short by
# half (`_CAUTION`): what passes uses up half of that.
OVERTAKING_SHARE = 0.25

Waiting = tuple[int, int, "Entry"]
QueueKey = tuple[float, int]


class Call(ABC):
    """One request's way through the queue. Calls of one trunk share batches; by default that is the tower alone.

    The fields after `priority` belong to the scheduler and change only under its lock. paid: the virtual time up to
    which the call has had its share. owed: items admitted but not pushed yet. each, size: predicted seconds and bytes
    of one of them.
    left: seconds of those that wait. dropped: why no more may come.
    """

    def __init__(self, tower: str, *, deadline: float | None, priority: Priority, trunk: str | None = None) -> None:
        self.tower = tower
        self.trunk = trunk or tower
        self.deadline = FOREVER if deadline is None else deadline
        self.priority = priority
        self.virtual_time = 0.0
        self.unprepared = self.size = 0
        self.item_seconds = self.queued_seconds = 0.0
        self.waiting: OrderedDict[Entry, None] = OrderedDict()  # in the order in which they came
        self.dropped: EmbedgeError | None = None

    @property
    def oldest(self) -> Entry:
        """The first of the waiting entries."""
        return next(iter(self.waiting))

    @property
    def remaining_seconds(self) -> float:
        """Predicted seconds of all that is still to be taken."""
        return self.queued_seconds + self.unprepared * self.item_seconds

    @abstractmethod
    def failed(self, error: EmbedgeError) -> None:
        """Hear that the call is dropped: entries that wait will not run. Called outside the scheduler's lock."""


class Entry:
    """One item of a call that waits for a lane. `length` in tokens, `seconds` predicted, `pushed` on the clock.

    size: bytes of its row. passed: seconds of work that went before it while it was first.
    """

    __slots__ = ("call", "index", "length", "overtaken_seconds", "pushed", "row", "seconds", "sequence", "size")

    def __init__(self, call: Call, index: int, row: Row, length: int) -> None:
        self.call = call
        self.index = index
        self.row = row
        self.length = length
        self.size = sum(array.nbytes for array in row.values())
        self.pushed = self.seconds = self.overtaken_seconds = 0.0
        self.sequence = 0


class _PriorityClass:
    """Calls that wait, least key first.

    A key that grew is corrected when its call comes to the top; one that fell keeps the call where it is until then.
    """

    def __init__(self, key: Callable[[Call], QueueKey]) -> None:
        self._key = key
        self._heap: list[tuple[QueueKey, Call]] = []
        self._members: set[Call] = set()  # those in the heap, each once
        self._tidy_above = 64

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, call: Call) -> None:
        """Add a call that waits, unless it is there."""
        if call in self._members:
            return
        if len(self._heap) > self._tidy_above:
            self._tidy()
        self._members.add(call)
        heapq.heappush(self._heap, (self._key(call), call))

    def first(self) -> Call | None:
        """Return the call of the least key."""
        while self._heap:
            key, call = self._heap[0]
            if not call.waiting:
                heapq.heappop(self._heap)
                self._members.remove(call)
            elif key == (now := self._key(call)):
                return call
            else:
                heapq.heapreplace(self._heap, (now, call))
        return None

    def _tidy(self) -> None:
        """Forget calls that left from the middle of the heap, so that it does not keep what is long done."""
        self._heap = [listed for listed in self._heap if listed[1].waiting]
        heapq.heapify(self._heap)
        self._members = {call for _, call in self._heap}
        self._tidy_above = 2 * len(self._heap) + 64


class FairQueue:
    """Entries that wait: by call in tag order, and sorted by length."""

    def __init__(self) -> None:
        self.virtual: dict[Priority, float] = {"interactive": 0.0, "bulk": 0.0}
        self._sequence = 0
        self._by_length: dict[str, list[Waiting]] = {}
        self._by_virtual_time = {
            priority: _PriorityClass(lambda call: (call.virtual_time, call.oldest.sequence))
            for priority in self.virtual
        }
        # Interactive calls only.
        self._by_remaining = _PriorityClass(lambda call: (call.remaining_seconds, call.oldest.sequence))
        self._bulk_waits = 0  # batches in a row that interactive work anchored while bulk waited

    def push(self, entry: Entry) -> None:
        """Add an entry, whose `seconds` are set, behind the others of its call."""
        call = entry.call
        self._sequence += 1
        entry.sequence = self._sequence
        if not call.waiting:
            call.virtual_time = max(call.virtual_time, self.virtual[call.priority])
        call.queued_seconds += entry.seconds
        call.waiting[entry] = None
        insort(self._by_length.setdefault(call.trunk, []), (entry.length, entry.sequence, entry))
        self._by_virtual_time[call.priority].add(call)
        if call.priority == "interactive":
            self._by_remaining.add(call)

    def anchor(self) -> Entry | None:
        """Return the oldest entry of the call that is first, or of the smallest, if that may pass."""
        interactive, bulk = self._first("interactive"), self._first("bulk")
        if interactive is None or (bulk is not None and self._bulk_waits >= BULK_TURN):
            return bulk
        small = self._by_remaining.first()
        if small is None:
            return interactive
        overtaken = interactive.overtaken_seconds + small.remaining_seconds
        return small.oldest if overtaken <= OVERTAKING_SHARE * interactive.seconds else interactive

    def window(self, anchor: Entry, now: float, cost: CostModel, limits: Limits, *, free: int) -> list[Entry]:
        """Return the entries that ride with the anchor. While `free` lanes are idle, each takes its share at most."""
        queue = self._by_length[anchor.call.trunk]
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
        first = self._first("interactive")
        if first is not None and first is not anchor:
            first.overtaken_seconds += sum(entry.seconds for entry in entries)
        # Half-way into the anchor: whoever comes now is behind what came before it, and before what the call has left.
        self.virtual[priority] = max(self.virtual[priority], anchor.call.virtual_time + anchor.seconds / 2)
        queue = self._by_length[anchor.call.trunk]
        low = bisect_left(queue, (entries[0].length, entries[0].sequence))
        del queue[low : low + len(entries)]
        self._forget(entries)
        for entry in entries:
            entry.call.virtual_time += entry.seconds
        self._bulk_waits = self._bulk_waits + 1 if priority == "interactive" and self._first("bulk") else 0

    def remove(self, call: Call) -> list[Entry]:
        """Take all entries of a call out, and return them in the order in which they came."""
        entries = list(call.waiting)
        queue = self._by_length.get(call.trunk, [])
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
            entry.call.queued_seconds -= entry.seconds

    def _first(self, priority: Priority) -> Entry | None:
        """Return the oldest entry of the priority's first call."""
        call = self._by_virtual_time[priority].first()
        return None if call is None else call.oldest

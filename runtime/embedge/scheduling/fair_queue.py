"""Waiting entries in fair order and by length. A plain data structure without lock and clock.

Calls are ordered by start-time fair queueing. The virtual time of a call advances by the predicted seconds of every
entry that leaves for a lane, also in a batch anchored by another call. A call that arrives, or returns after it was
empty, starts at virtual time now. The call with the least virtual time is first: its oldest entry anchors the next
batch, and virtual time now advances past it. So calls of one item run in order of arrival, and a large call yields to
them after each batch.

One exception: smaller calls may overtake an interactive entry that is first, as long as all of them together take no
more than `OVERTAKING_SHARE` of its own seconds. So a short string does not wait for every long one before it, and no
wait exceeds the one in order of arrival by more than about that share.

While interactive and bulk work both wait, bulk anchors one batch in `BULK_TURN + 1`.

Nothing starves. Before a call at virtual time T, only calls below T run, plus the small share that may overtake. Each
batch advances virtual time, where every new call starts, or uses up a call below T. The queue is bounded, so after a
finite number of batches T is the least.
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
# Batches in a row that interactive work may anchor while bulk work waits.
BULK_TURN = 8
# Work that may overtake the first entry, as a share of its own seconds. Admission allows waits to be 1.5 times the
# prediction (`_CAUTION`); overtaking uses half of that margin.
OVERTAKING_SHARE = 0.25

Waiting = tuple[int, int, "Entry"]
QueueKey = tuple[float, int]


class Call(ABC):
    """One request in the queue.

    The fields from `virtual_time` on belong to the scheduler and change only under its lock.

    Attributes:
        tower: The tower that its items are for.
        trunk: Calls of one trunk share batches.
        deadline: On the scheduler's clock; inf for none.
        priority: Interactive or bulk.
        virtual_time: The virtual time up to which the call has had its share.
        unprepared: Items admitted but not pushed yet.
        size: Predicted bytes of one of them.
        item_seconds: Predicted seconds of one of them.
        queued_seconds: Predicted seconds of the waiting entries.
        waiting: The waiting entries, in order of arrival.
        dropped: Why the call was dropped.
    """

    def __init__(self, tower: str, *, deadline: float | None, priority: Priority, trunk: str | None = None) -> None:
        """Create a call.

        Args:
            tower: The tower that its items are for.
            deadline: On the scheduler's clock; None for none.
            priority: Interactive or bulk.
            trunk: The tower whose batches it joins; by default its own.
        """
        self.tower = tower
        self.trunk = trunk or tower
        self.deadline = FOREVER if deadline is None else deadline
        self.priority = priority
        self.virtual_time = 0.0
        self.unprepared = self.size = 0
        self.item_seconds = self.queued_seconds = 0.0
        self.waiting: OrderedDict[Entry, None] = OrderedDict()
        self.dropped: EmbedgeError | None = None

    @property
    def oldest(self) -> Entry:
        """The first waiting entry."""
        return next(iter(self.waiting))

    @property
    def remaining_seconds(self) -> float:
        """Predicted seconds of all entries that have not left for a lane."""
        return self.queued_seconds + self.unprepared * self.item_seconds

    @abstractmethod
    def failed(self, error: EmbedgeError) -> None:
        """React to a dropped call: its waiting entries will not run. Called outside the scheduler's lock."""


class Entry:
    """One item of a call that waits for a lane.

    Attributes:
        call: Its call.
        index: Its place among the call's items.
        row: Its prepared arrays.
        length: Its length in tokens.
        size: Bytes of its row.
        seconds: Predicted seconds alone.
        pushed: When it entered the queue, on the scheduler's clock.
        overtaken_seconds: Seconds of work that overtook it while it was first.
        sequence: Its place in order of arrival.
    """

    __slots__ = ("call", "index", "length", "overtaken_seconds", "pushed", "row", "seconds", "sequence", "size")

    def __init__(self, call: Call, index: int, row: Row, length: int) -> None:
        """Create an entry of `length` tokens for item `index` of a call."""
        self.call = call
        self.index = index
        self.row = row
        self.length = length
        self.size = sum(array.nbytes for array in row.values())
        self.pushed = self.seconds = self.overtaken_seconds = 0.0
        self.sequence = 0


class _PriorityClass:
    """Waiting calls, least key first.

    A key that grew is corrected when its call reaches the top. A key that fell takes effect at the same moment.
    """

    def __init__(self, key: Callable[[Call], QueueKey]) -> None:
        self._key = key
        self._heap: list[tuple[QueueKey, Call]] = []
        self._members: set[Call] = set()  # the calls in the heap
        self._tidy_above = 64

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, call: Call) -> None:
        """Add a waiting call, unless it is a member."""
        if call in self._members:
            return
        if len(self._heap) > self._tidy_above:
            self._tidy()
        self._members.add(call)
        heapq.heappush(self._heap, (self._key(call), call))

    def first(self) -> Call | None:
        """Return the call with the least key."""
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
        """Remove finished calls from the middle of the heap."""
        self._heap = [listed for listed in self._heap if listed[1].waiting]
        heapq.heapify(self._heap)
        self._members = {call for _, call in self._heap}
        self._tidy_above = 2 * len(self._heap) + 64


class FairQueue:
    """Waiting entries, by call in fair order and sorted by length.

    Attributes:
        virtual: Virtual time now, by priority.
    """

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
        """Add an entry behind the others of its call. Its `seconds` must be set."""
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
        """Return the oldest entry of the first call, or of the smallest call if that may overtake; None if empty."""
        interactive, bulk = self._first("interactive"), self._first("bulk")
        if interactive is None or (bulk is not None and self._bulk_waits >= BULK_TURN):
            return bulk
        small = self._by_remaining.first()
        if small is None:
            return interactive
        overtaken = interactive.overtaken_seconds + small.remaining_seconds
        return small.oldest if overtaken <= OVERTAKING_SHARE * interactive.seconds else interactive

    def window(self, anchor: Entry, now: float, cost: CostModel, limits: Limits, *, free: int) -> list[Entry]:
        """Return the entries of the batch around an anchor.

        Args:
            anchor: The entry that must be in the batch.
            now: The time on the scheduler's clock.
            cost: The cost table of the anchor's trunk.
            limits: The largest batch.
            free: Idle lanes. Each takes at most its share of the entries.
        """
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
        """Remove the entries of a batch, and advance virtual time and that of their calls."""
        priority = anchor.call.priority
        first = self._first("interactive")
        if first is not None and first is not anchor:
            first.overtaken_seconds += sum(entry.seconds for entry in entries)
        # Half of the anchor: a new call runs after the calls that arrived before it, and before the rest of this call.
        self.virtual[priority] = max(self.virtual[priority], anchor.call.virtual_time + anchor.seconds / 2)
        queue = self._by_length[anchor.call.trunk]
        low = bisect_left(queue, (entries[0].length, entries[0].sequence))
        del queue[low : low + len(entries)]
        self._forget(entries)
        for entry in entries:
            entry.call.virtual_time += entry.seconds
        self._bulk_waits = self._bulk_waits + 1 if priority == "interactive" and self._first("bulk") else 0

    def remove(self, call: Call) -> list[Entry]:
        """Remove all entries of a call, and return them in order of arrival."""
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

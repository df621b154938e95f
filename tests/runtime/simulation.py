"""The scheduler under a virtual clock: the real one, with lanes that only let time pass. No thread, no sleep.

A `World` is one seed's workload on one scheduler, run event by event; every draw comes from the seed, so a world is the
same each time. After each event the invariants of the scheduler are checked against the world's own books, which know
nothing of how the scheduler keeps its own. What is broken raises `Broken`.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import random
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedge.batches.batch import Batch
from embedge.errors import BackendError, DeadlineExceeded, EmbedgeError, InvalidInput, Overloaded, Unavailable
from embedge.scheduling.capacity import QueueCapacity
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.fair_queue import FOREVER, Call, Entry
from embedge.scheduling.forming import Limits
from embedge.scheduling.scheduler import Scheduler
from tests.runtime.invariants import ENDED, RUNNING, WAITING, check_batch, check_books
from tests.runtime.turns import Turns

__all__ = ["Broken", "Machine", "SimCall", "World"]

_CHUNK = 256  # as many items as the preparer pushes at once
_FULL_CHECK = 1000  # events between two checks of everything
_LOOK = 64  # open calls up to which each batch's turn is checked; with more, one batch in so many
_LIMITS = Limits(64, 8192)
_IDS = np.zeros(1 << 16, np.int64)  # what rows are cut from
_TOKEN_BYTES = _IDS.itemsize


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(frozen=True)
class Machine:
    """What runs the batches. seconds = fixed + token * rows ** batching * length; `wrong`: the cost table's factor."""

    lanes: int = 1
    max_in_flight: int = 1  # batches that a lane may have in flight; it computes one after the other
    fixed: float = 1e-3
    token: float = 2e-5
    batching: float = 1.0
    wrong: float = 1.0
    slow: float = 1.0  # factor of the last lane
    jitter: float = 0.0
    limits: Limits = _LIMITS
    max_items: int = 4096
    max_bytes: int = 1 << 30
    max_seconds: float = 60.0
    max_wait: float = 0.0

    def seconds(self, rows: int, length: int) -> float:
        """Return what a batch really takes."""
        return self.fixed + self.token * rows**self.batching * length

    def table(self) -> CostTable:
        """Return the cost table as measured on this machine, off by the factor `wrong`."""
        now = [0.0]

        def run(rows: int, length: int) -> None:
            now[0] += self.seconds(rows, length) * self.wrong

        table = CostTable((1, 2, 4, 8, 16, 32, 64), (8, 32, 128, 512))
        table.measure(run, budget=FOREVER, clock=lambda: now[0])
        return table


class SimCall(Call):
    """A call whose items each are in one state at a time."""

    def __init__(self, world: World, number: int, lengths: list[int], **options: Any) -> None:
        super().__init__(**options)
        self.world = world
        self.number = number
        self.lengths = lengths
        self.states = bytearray(len(lengths))
        self.open = len(lengths)
        self.unpushed = 0
        self.over: EmbedgeError | None = None
        self.arrived = world.now

    def failed(self, error: EmbedgeError) -> None:
        self.world.hear(self, error)


@dataclass
class Lane:
    """One simulated lane; an event of an older `life` is void."""

    number: int
    alive: bool = True
    batches: deque[Batch] = field(default_factory=deque)  # in flight; the first computes
    free: float = 0.0  # when the last of them is done
    life: int = 0


class World:
    """Calls, lanes, a clock and the real scheduler. Events are functions that run at their time."""

    def __init__(self, seed: int, machine: Machine) -> None:
        self.random = random.Random(seed)
        self.machine = machine
        self.now = 0.0
        table = machine.table()
        self.scheduler = Scheduler(
            defaultdict(lambda: table),  # whatever the tower
            machine.limits,
            QueueCapacity(machine.max_items, machine.max_bytes),
            max_seconds=machine.max_seconds,
            max_wait=machine.max_wait,
            lanes=machine.lanes,
            clock=lambda: self.now,
        )
        self.lanes = [Lane(number) for number in range(machine.lanes)]
        self.counts: Counter[str] = Counter()
        self.schedule = hashlib.blake2b()  # of all batches, in order
        self.waits: list[tuple[float, int, SimCall]] = []  # (seconds from push to batch, batches meanwhile, call)
        self.open: dict[SimCall, None] = {}
        self.batches = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._steps = 0
        self._items = 0  # admitted and neither taken nor ended
        self._wake = FOREVER
        self._turns = Turns()

    # What a test lets happen.

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        """Let `act` happen `seconds` from now."""
        heapq.heappush(self._events, (self.now + seconds, next(self._order), act))

    def call(
        self,
        lengths: list[int],
        *,
        estimate: float = 1.0,
        prepare: float = 0.0,
        bad: float = 0.0,
        timeout: float | None = None,
        priority: str = "interactive",
        tower: str = "text",
        trunk: str | None = None,
    ) -> SimCall | None:
        """Submit a call; None if it is refused. bad: share of items that fail in preparing, which takes `prepare`."""
        deadline = None if timeout is None else self.now + timeout
        whose = {"tower": tower, "trunk": trunk, "priority": priority}
        call = SimCall(self, self.counts["calls"], lengths, deadline=deadline, **whose)
        self.counts["calls"] += 1
        try:
            tokens = max(1, int(sum(lengths) * estimate))
            self.scheduler.admit(call, len(lengths), tokens, tokens * _TOKEN_BYTES)
        except (Overloaded, Unavailable, DeadlineExceeded, InvalidInput) as error:
            self.counts[f"refused {type(error).__name__}"] += 1
            return None
        self.counts["admitted"] += len(lengths)
        self._items += len(lengths)
        call.unpushed = len(lengths)
        self.open[call] = None
        self._push(call, 0, prepare, bad) if prepare == 0 else self.at(
            prepare, lambda: self._push(call, 0, prepare, bad)
        )
        return call

    def cancel(self, call: SimCall) -> None:
        """Let the caller leave."""
        if call.over is None:
            self.scheduler.drop(call, Unavailable("the caller left"))

    def kill(self, lane: Lane, rebuilt: float) -> None:
        """Break a lane, with the batch that runs in it; it is back after `rebuilt` seconds."""
        if not lane.alive:
            return
        lane.alive, lane.life = False, lane.life + 1
        self.counts["deaths"] += 1
        if not any(each.alive for each in self.lanes):
            self.scheduler.refuse(Unavailable("no lane is alive"), drop=True)
            self.expect(not self._items, "no lane is alive, but calls still wait")
        self.at(rebuilt, lambda: self._revive(lane))
        lane.free = self.now
        while lane.batches:
            batch = lane.batches.popleft()
            for call in dict.fromkeys(entry.call for entry in entries_of(batch)):
                self.scheduler.drop(call, BackendError("the lane failed"))
            self._end(batch, "failed")
            self.scheduler.done(batch, None)

    def run(self) -> None:
        """Let everything happen, checking after each event."""
        self._dispatch()
        while self._events:
            self.now, _, act = heapq.heappop(self._events)
            act()
            self._dispatch()
            self._check()

    def finish(self) -> None:
        """Drain, and check that nothing is left anywhere."""
        self.scheduler.drain(0)
        self.run()
        self.expect(self.scheduler.drain(0), "drained, but the scheduler says it is not")
        self.expect(self.scheduler.poll()[0] is None, "drained, but there is another batch")
        ended = sum(self.counts[kind] for kind in ("computed", "expired", "cancelled", "failed", "skipped"))
        self.expect(ended == self.counts["admitted"], f"{self.counts['admitted']} admitted, but {ended} ended")
        self.expect(not self.open, f"{len(self.open)} calls never ended")
        stats = self.scheduler.stats()
        for name in ("waiting_items", "waiting_bytes", "waiting_seconds", "running_batches", "open_calls"):
            self.expect(stats[name] == 0, f"drained, but {name} is {stats[name]}")

    # What happens by itself.

    def _push(self, call: SimCall, start: int, prepare: float, bad: float) -> None:
        stop = min(len(call.lengths), start + _CHUNK)
        good = [i for i in range(start, stop) if not bad or self.random.random() >= bad]
        entries = [Entry(call, i, {"ids": _IDS[: call.lengths[i]]}, call.lengths[i]) for i in good]
        skipped = stop - start - len(good)
        self.scheduler.push(call, entries, skipped=skipped)
        if call.over is not None:
            return
        call.unpushed -= stop - start
        self._items -= skipped
        for i in set(range(start, stop)).difference(good) if skipped else ():
            self._finish_item(call, i, "skipped")
        for entry in entries:
            entry.row = self.batches  # the row is the caller's own: here, when it was pushed
        if stop < len(call.lengths):
            self.at(prepare, lambda: self._push(call, stop, prepare, bad))

    def _dispatch(self) -> None:
        # A lane takes as a real one does: whenever it has room, the idle ones first.
        for depth in range(self.machine.max_in_flight):
            for lane in self.lanes:
                if lane.alive and len(lane.batches) <= depth:
                    self._look()
                    batch, wake = self.scheduler.poll()
                    if batch is None:
                        self._wake_at(wake)
                        return
                    self._begin(lane, batch)

    def _look(self) -> None:
        if len(self.open) > _LOOK:
            self._turns.look_away()
        if len(self.open) <= _LOOK or self.batches % _LOOK == 0:
            self._turns.look(self.open)

    def _wake_at(self, wake: float) -> None:
        if wake < self._wake or self._wake <= self.now:
            self._wake = wake
            if wake < FOREVER:
                self.at(max(0.0, wake - self.now), lambda: None)

    def _begin(self, lane: Lane, batch: Batch) -> None:
        entries = entries_of(batch)
        check_batch(self, batch, entries)
        self.batches += 1
        numbers = array("q", [lane.number])
        for entry in entries:
            call = entry.call
            call.states[entry.index] = RUNNING
            numbers.extend((call.number, entry.index))
            self.waits.append((self.now - entry.pushed, self.batches - 1 - entry.row, call))
        self._items -= len(entries)
        self.schedule.update(numbers.tobytes())
        lane.batches.append(batch)
        life = lane.life
        seconds = self.machine.seconds(len(entries), batch.width)
        seconds *= self.machine.slow if lane.number == len(self.lanes) - 1 else 1.0
        if self.machine.jitter:
            seconds *= self.random.uniform(1, 1 + self.machine.jitter) * (10 if self.random.random() < 0.01 else 1)
        lane.free = max(lane.free, self.now) + seconds
        self.at(lane.free - self.now, lambda: self._done(lane, life, batch, seconds))

    def _done(self, lane: Lane, life: int, batch: Batch, seconds: float) -> None:
        if lane.life != life:
            return  # the lane died meanwhile
        self.expect(lane.batches.popleft() is batch, "a lane's batches do not end in order")
        self._end(batch, "computed")
        self.scheduler.done(batch, seconds)

    def _end(self, batch: Batch, how: str) -> None:
        for entry in entries_of(batch):
            self.counts["late"] += how == "computed" and self.now > entry.call.deadline
            self._finish_item(entry.call, entry.index, how)

    def _revive(self, lane: Lane) -> None:
        lane.alive = True
        self.scheduler.refuse(None)

    def hear(self, call: SimCall, error: EmbedgeError) -> None:
        """Hear from the scheduler that a call is dropped: what waits of it ends now."""
        self.expect(call.over is None, f"call {call.number} was dropped twice")
        call.over = error
        how = {DeadlineExceeded: "expired", Unavailable: "cancelled"}.get(type(error), "failed")
        for index in [i for i, state in enumerate(call.states) if state == WAITING]:
            self._items -= 1
            self._finish_item(call, index, how)

    def _finish_item(self, call: SimCall, index: int, how: str) -> None:
        self.expect(call.states[index] != ENDED, f"item {index} of call {call.number} ended twice")
        call.states[index] = ENDED
        self.counts[how] += 1
        call.open -= 1
        if not call.open:
            del self.open[call]

    def _check(self) -> None:
        self._steps += 1
        inside = self.scheduler._capacity.items
        if inside != self._items or inside > self.machine.max_items:
            raise Broken(f"{inside} items are said to wait, {self._items} do, {self.machine.max_items} may")
        if self._steps % _FULL_CHECK == 0:
            check_books(self)

    def expect(self, holds: bool, what: str) -> None:
        """Raise `Broken` unless this holds."""
        if not holds:
            raise Broken(f"at {self.now:.6f} s, after {self.batches} batches: {what}")


def entries_of(batch: Batch) -> list[Any]:
    """Return the entries of a batch."""
    return list(batch.entries)

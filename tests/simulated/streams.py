"""Streams, events, and what runs when: the first operations of different streams in an order that a seed decides."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.simulated.clock import Clock
from tests.simulated.errors import Failure, Violation
from tests.simulated.memory import POISON, Span

if TYPE_CHECKING:
    from tests.simulated.capture import Capture
    from tests.simulated.contexts import Context

__all__ = ["Event", "Op", "Scheduler", "Stream"]


@dataclass(eq=False)
class Op:
    """One piece of work of a stream. kind: the engine it occupies: copy-in, compute, copy-out; "" for none.

    run: does it, with real numbers. reads, writes: all bytes that it touches. needs: what must be done before it,
    beside what is before it in its stream.
    """

    name: str
    kind: str = ""
    run: Callable[[], None] | None = None
    reads: tuple[Span, ...] = ()
    writes: tuple[Span, ...] = ()
    seconds: float = 0.0
    needs: tuple[Op, ...] = ()
    done: bool = False
    enqueued: float = 0.0  # virtual time of the thread that enqueued it
    end: float = 0.0
    index: int = 0
    after: dict[int, int] = field(default_factory=dict)  # by stream: the last index there that is surely before it
    sums: list[tuple[Span, int]] = field(default_factory=list)  # host memory that must not change until it ran
    stream: Stream | None = None

    def again(self) -> Op:
        """Return the same work, not yet enqueued: a captured graph launches it anew each time."""
        return Op(self.name, self.kind, self.run, self.reads, self.writes, self.seconds)

    def touches(self, span: Span) -> bool:
        return any(span.overlaps(each) for each in (*self.reads, *self.writes))

    def conflicts(self, other: Op) -> bool:
        """Whether it matters which of the two runs first."""
        return any(map(other.touches, self.writes)) or any(map(self.touches, other.writes))


@dataclass(eq=False)
class Stream:
    """A queue of work. hung: its first operation never starts, until a test lets it."""

    handle: int
    context: Context
    queue: deque[Op] = field(default_factory=deque)
    hung: bool = False
    capture: Capture | None = None
    count: int = 0
    after: dict[int, int] = field(default_factory=dict)
    ready: float = 0.0  # virtual time at which what ran of it was done

    def head(self) -> Op | None:
        """Return its first operation, if that may run now."""
        ready = bool(self.queue) and not self.hung and all(op.done for op in self.queue[0].needs)
        return self.queue[0] if ready else None


@dataclass(eq=False)
class Event:
    """A mark in a stream. recorded: the operation that is it, None before the first time."""

    handle: int
    context: Context
    timing: bool = True
    recorded: Op | None = None
    captured: bool = False


class Scheduler:
    """Runs what is enqueued, in the thread that happens to call. order: "late", "eager" or "random".

    `lock` is the machine's; `changed` is told when a hung stream goes on or a context ends.
    """

    def __init__(
        self, order: str, seed: int, lock: threading.RLock, clock: Clock, remember: Callable[[str], None]
    ) -> None:
        if order not in ("late", "eager", "random"):
            raise ValueError(f"order {order!r}: late, eager or random")
        self.order = order
        self.changed = threading.Condition(lock)
        self.streams: dict[int, Stream] = {}
        self.running: Op | None = None
        self.before: Callable[[Op], None] = lambda op: None  # may raise Failure: the kernel fails
        self._random = random.Random(seed)
        self._haste = self._random.choice((0.02, 0.1, 0.3, 0.6))  # of the GPU, against the host
        self._clock = clock
        self._remember = remember

    def pending(self) -> Iterator[Op]:
        """Return what is enqueued and has not run."""
        for stream in self.streams.values():
            yield from stream.queue

    def submit(self, stream: Stream, op: Op) -> None:
        """Enqueue: note what is before it, what it reads of the host, and poison what it will write there."""
        if stream.context.dead:  # the first part of a captured graph may have killed it
            return
        stream.count += 1
        op.stream, op.index, op.enqueued = stream, stream.count, self._clock.now()
        for need in op.needs:
            for key, index in need.after.items():
                stream.after[key] = max(stream.after.get(key, 0), index)
        stream.after[stream.handle] = op.index
        op.after = dict(stream.after)
        self._check_races(op)
        self._check_lost(op)
        self._guard_host(op)
        stream.queue.append(op)
        self.progress()

    def _check_races(self, op: Op) -> None:
        for other in self.pending():
            ordered = other.stream is op.stream or other.index <= op.after.get(other.stream.handle, 0)
            if not ordered and op.conflicts(other):
                self._remember(f"race: {op.name} and {other.name} touch the same bytes, and no event orders them")

    def _check_lost(self, op: Op) -> None:
        """A copy to the host that comes before the host can have read the one before it: that one is lost."""
        for other in self.pending():
            both = op.kind == other.kind == "copy-out"
            if both and any(span.overlaps(each) for span in op.writes for each in other.writes):
                self._remember("host memory is overwritten by a copy-out before that of the one before can be read")

    def _guard_host(self, op: Op) -> None:
        """Take checksums of pinned memory that it reads, and poison what it writes; not where work before it does."""
        others = list(self.pending())
        for span in op.reads:
            if span.region.host and not any(span.overlaps(each) for other in others for each in other.writes):
                op.sums.append((span, span.checksum()))
        for span in op.writes:
            own = any(span.overlaps(each) for each in op.reads)
            if span.region.host and not own and not any(other.touches(span) for other in others):
                span.data[:] = POISON

    def progress(self) -> None:
        """Run what the order says may run by itself at this moment."""
        if self.running is not None:
            return
        if self.order == "eager":
            while self._run_any():
                pass
        elif self.order == "random":
            while self._random.random() < self._haste and self._run_any():
                pass

    def _run_any(self) -> bool:
        ready = [op for stream in self.streams.values() if (op := stream.head()) is not None]
        if ready:
            self._run(self._random.choice(ready))
        return bool(ready)

    def poll(self, op: Op) -> bool:
        """Return whether it is done. Being asked lets at most one operation run, so that polling comes to an end."""
        if op.done:
            self._clock.reach(op.end)
            return True
        if (first := self._first(op)) is not None:
            self._run(first)
        return False

    def wait(self, op: Op, context: Context) -> None:
        """Run what it needs until it is done. Blocks, without the lock, while a hung stream is in the way."""
        while not op.done:
            if context.dead or context.destroyed:
                raise Failure(context.dead or "CUDA_ERROR_CONTEXT_IS_DESTROYED")
            first = self._first(op)
            if first is None:
                self.changed.wait()
            elif self.order == "random":
                self._run_any()
            else:
                self._run(first)
        self._clock.reach(op.end)
        if context.dead:
            raise Failure(context.dead)

    def _first(self, op: Op) -> Op | None:
        """Return what has to run next for `op` to get done; None if a hung stream is in the way."""
        while True:
            if op.stream.hung:
                return None
            head = op.stream.queue[0]
            missing = [need for need in head.needs if not need.done]
            if not missing:
                return head
            op = missing[0]

    def _run(self, op: Op) -> None:
        """Run the first operation of its stream; a failure is one of the whole context."""
        stream = op.stream
        for span, before in op.sums:
            if span.region.alive and span.checksum() != before:
                self._remember(f"host memory was changed before {op.name} had read it: refilled too early")
        self.running = op
        try:
            self.before(op)
            if stream.hung:  # just now
                return
            if op.run is not None:
                op.run()
        except Failure as failure:
            self.kill(stream.context, failure.code)
        except Violation:  # already remembered: an address that is not there
            self.kill(stream.context, "CUDA_ERROR_ILLEGAL_ADDRESS")
        except Exception as error:
            self._remember(f"kernel {op.name} raised {error!r}")
            self.kill(stream.context, "CUDA_ERROR_LAUNCH_FAILED")
        else:
            stream.queue.popleft()
            self._account(op)
        finally:
            self.running = None

    def _account(self, op: Op) -> None:
        """Mark it done, at the virtual time at which it was."""
        earliest = max(op.stream.ready, op.enqueued, *(need.end for need in op.needs), 0.0)
        op.end = earliest
        if op.kind:
            op.end = self._clock.use(op.kind, op.stream.handle, op.name, earliest, op.seconds)[1]
        op.stream.ready = op.end
        op.done = True

    def kill(self, context: Context, code: str) -> None:
        """End all work of a context: it did not run, and never will."""
        context.dead = context.dead or code
        for stream in self.streams.values():
            if stream.context is context:
                stream.queue.clear()
        self.changed.notify_all()

"""A lane at a device that does what the test says, when it says so. Real threads, events, no sleeps."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from embedge.backends.onnxruntime import CpuSlot
from embedge.batches.batch import Batch
from embedge.lanes import Executor, Lane, Outcome

__all__ = ["Rig", "batch"]

LONG = 30.0  # seconds after which a test that went wrong ends


def batch(name: str, rows: int = 2, predicted: float = 0.0) -> Batch:
    """Return a batch whose rows are named after it: `a0`, `a1` …"""
    named: list[Any] = [f"{name}{row}" for row in range(rows)]
    return Batch(["text"] * rows, named, [1] * rows, [name], predicted=predicted)


class Rig:
    """One lane, its source of batches and of executors, and the outcomes. Owned by its test.

    bad: rows that no batch survives. unstarted: rows whose batch cannot even be begun. broken: nothing works, until
    an executor is opened if `heals`. lost: what `slot.check` raises. held: rows whose batch ends when `let` is called.
    """

    def __init__(
        self,
        *,
        max_in_flight: int = 2,
        held: Sequence[str] = (),
        probes: Sequence[Batch] = (Batch(["text"], ["probe"], [1]),),  # type: ignore[list-item]
        **options: Any,
    ) -> None:
        """options: of the lane."""
        self.now = 0.0
        self.bad: set[str] = set()
        self.unstarted: set[str] = set()
        self.broken = self.heals = False
        self.lost: Exception | None = None
        self.held = set(held)
        self.log: list[str] = []
        self.outcomes: list[tuple[Any, Outcome]] = []
        self.words: list[bool] = []
        self.threads: dict[str, set[str]] = {}
        self.idle = 0
        self.thread: threading.Thread | None = None  # the lane's, once it has opened an executor
        self._stopped = False
        self._batches: deque[Batch] = deque()
        self._changed = threading.Condition()  # guards all of this; between the test and the lane's threads
        self.lane: Lane[Any] = Lane(
            "test",
            work=self,
            executors=self,
            deliver=self._deliver,
            on_change=lambda lane: self.note(lambda: self.words.append(lane.alive)),
            probes=probes,
            max_in_flight=max_in_flight,
            clock=lambda: self.now,
            **options,
        )

    def __enter__(self) -> Rig:
        self.lane.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.note(lambda: setattr(self, "_stopped", True))
        self.let(*self.held)
        assert self.lane.join(LONG)

    def push(self, *batches: Batch) -> None:
        """Let batches wait for the lane."""
        self.note(lambda: self._batches.extend(batches))

    def let(self, *rows: str) -> None:
        """Let the batches of these rows end."""
        self.note(lambda: self.held.difference_update(rows))

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        with self._changed:
            assert self._changed.wait_for(holds, LONG), (self.log, self.outcomes, self.words)

    def ends(self, *names: str) -> dict[Any, Outcome]:
        """Wait until these batches are answered, each once and nothing else; return what became of them."""
        self.until(lambda: len(self.outcomes) >= len(names))
        assert sorted(name for name, _ in self.outcomes) == sorted(names)
        return dict(self.outcomes)

    def note(self, change: Callable[[], object]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def act(self, what: str) -> None:
        self.note(lambda: self.log.append(what))
        self.threads.setdefault(what.split()[0], set()).add(threading.current_thread().name)

    def gone(self) -> None:
        """Wait until the lane's thread has ended."""
        assert self.thread is not None
        self.thread.join(LONG)
        assert not self.thread.is_alive()

    # What the lane is given.

    def open(self, wake: Callable[[], None], on_progress: Callable[[], None]) -> Executor:
        """Open what the lane computes with."""
        self.thread = threading.current_thread()
        self.act("open")
        self.broken = self.broken and not self.heals
        self.lost = self.lost if not self.heals else None
        return Executor(Slot(self), Program(self), lambda each: {"rows": np.array(each.rows)})  # type: ignore[arg-type]

    def close(self, executor: Executor) -> None:
        """Close it."""
        self.act("close")

    def take(self, interrupted: Callable[[], bool]) -> Batch | None:
        """Wait for a batch."""
        with self._changed:
            self.idle += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: interrupted() or self._batches or self._stopped)
            self.idle -= 1
            return self._batches.popleft() if self._batches and not interrupted() else None

    def interrupt(self) -> None:
        """Let the lane look up."""
        self.note(lambda: None)

    def _deliver(self, each: Batch, outcome: Outcome) -> None:
        self.note(lambda: self.outcomes.append((each.entries[0], outcome)))


class Slot(CpuSlot):
    """The rig's slot, which may be lost."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(1)
        self.rig = rig

    def check(self) -> None:
        if self.rig.lost is not None:
            raise self.rig.lost

    def attach(self) -> None:
        self.rig.act("attach")

    def detach(self) -> None:
        self.rig.act("detach")


class Program:
    """Stands where a program does; its rows are names."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def start(self, towers: Sequence[str], feeds: dict[str, Any]) -> Callable[[], Any]:
        rig, rows = self.rig, feeds["rows"].tolist()
        rig.act(f"start {rows[0]}")
        if rig.unstarted.intersection(rows):
            raise RuntimeError("cannot be begun")

        def finish() -> Any:
            rig.until(lambda: not rig.held.intersection(rows))
            rig.act(f"end {rows[0]}")
            if rig.broken or rig.bad.intersection(rows):
                raise RuntimeError("the device is on fire")
            return {"text": (range(len(rows)), {"dense": np.ones((len(rows), 4), np.float32)})}

        return finish

    def good(self, tower: str, rows: int, tensors: Any) -> Any:
        return np.isfinite(tensors["dense"]).all(axis=1)

    def check(self, tower: str, rows: int, tensors: Any) -> None: ...

"""Who waits at the scheduler, and who is told when: real threads, and no sleeps; see tests.mutations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedge.errors import EmbedgeError, Unavailable
from embedge.scheduling import scheduler as scheduler_module
from embedge.scheduling.capacity import QueueCapacity
from embedge.scheduling.fair_queue import Call, Entry
from embedge.scheduling.forming import Limits
from embedge.scheduling.scheduler import Scheduler
from tests.runtime.races import locks, race
from tests.runtime.simulation import Machine

PATIENCE = 5.0  # seconds, where a test that went wrong waits for what does not come
TABLE = Machine().table()


class Asked(Call):
    """A call that notes why it failed."""

    def __init__(self) -> None:
        super().__init__("text", deadline=None, priority="interactive")
        self.error: EmbedgeError | None = None

    def failed(self, error: EmbedgeError) -> None:
        self.error = error


class Desk:
    """A scheduler, and threads at it. waits: how often each of them had to wait. found: what each came back with."""

    def __init__(self) -> None:
        self.scheduler = Scheduler({"text": TABLE}, Limits(1, 8192), QueueCapacity(100, 100), max_seconds=60.0)
        self.waits: Counter[str] = Counter()
        self.found: dict[str, Any] = {}
        self.changed = threading.Condition()  # guards the two; between the test and its threads
        self.threads: list[threading.Thread] = []  # owned by the test

    def go(self, name: str, run: Callable[[], object]) -> None:
        """Let a thread do something."""

        def main() -> None:
            try:
                found = run()
            except BaseException as error:
                found = error
            self.note(lambda: self.found.update({name: found}))

        self.threads.append(threading.Thread(target=main, name=name, daemon=True))
        self.threads[-1].start()

    def note(self, change: Callable[[], object]) -> None:
        with self.changed:
            change()
            self.changed.notify_all()

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds."""
        with self.changed:
            assert self.changed.wait_for(holds, PATIENCE), (self.waits, self.found)

    def stands(self, name: str, times: int = 1) -> None:
        """Wait until a thread waits."""
        self.until(lambda: self.waits[name] >= times)

    def call(self, items: int = 1) -> Asked:
        """Let in a call, each of whose items takes 20 bytes."""
        call = Asked()
        self.scheduler.admit(call, items, items, items * 16)
        return call

    def push(self, call: Asked, items: int = 1) -> None:
        self.scheduler.push(call, [Entry(call, number, {"ids": np.zeros(2)}, 2) for number in range(items)])


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            made.note(lambda: made.waits.update([threading.current_thread().name]))
            return super().wait(timeout)

    monkeypatch.setattr(scheduler_module, "threading", SimpleNamespace(**(vars(threading) | {"Condition": Condition})))
    made = Desk()
    yield made
    made.scheduler.stop()
    for thread in made.threads:
        thread.join(PATIENCE)


def test_a_lane_with_nothing_to_do_sleeps_until_something_comes(desk: Desk) -> None:
    desk.go("lane", desk.scheduler.take)
    desk.stands("lane")
    desk.push(desk.call())
    desk.until(lambda: desk.found)
    assert len(desk.found["lane"].rows) == 1
    assert desk.waits["lane"] == 1


def test_a_lane_that_leaves_something_over_wakes_another(desk: Desk) -> None:
    for name in ("first", "second"):
        desk.go(name, desk.scheduler.take)
        desk.stands(name)
    desk.push(desk.call(items=2), items=2)  # one piece, of which a batch takes one
    desk.until(lambda: len(desk.found) == 2)
    assert all(len(batch.rows) == 1 for batch in desk.found.values())


def test_a_lane_that_is_called_away_hands_on_the_word_that_there_is_work(desk: Desk) -> None:
    away = threading.Event()
    desk.go("first", lambda: desk.scheduler.take(away.is_set))
    desk.stands("first")
    desk.go("second", desk.scheduler.take)
    desk.stands("second")
    away.set()
    desk.push(desk.call())  # which wakes whoever waits for longest
    desk.until(lambda: len(desk.found) == 2)
    assert desk.found["first"] is None
    assert len(desk.found["second"].rows) == 1


def test_who_prepares_a_large_call_waits_for_lanes(desk: Desk) -> None:
    call = desk.call(items=4)
    desk.push(call, items=3)  # 48 bytes are there, of the 25 that may be prepared ahead
    desk.go("preparer", lambda: desk.scheduler.wait_for_capacity(call))
    desk.stands("preparer")
    for _ in range(2):
        assert not desk.found
        batch, _ = desk.scheduler.poll()
        assert batch is not None
    desk.until(lambda: desk.found)
    assert desk.found["preparer"] is None


def test_who_drains_hears_of_the_last_call_that_is_dropped(desk: Desk) -> None:
    call = desk.call()
    desk.push(call)
    desk.go("drain", lambda: desk.scheduler.drain(None))
    desk.stands("drain")
    desk.scheduler.drop(call, Unavailable("the caller left"))
    desk.until(lambda: desk.found)
    assert desk.found["drain"] is True
    assert call.error is not None


def test_a_scheduler_that_stops_while_it_drains_says_that_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(desk: Desk) -> None:
        with pytest.raises(Unavailable, match="closed"):
            desk.call()

    locks(monkeypatch, scheduler_module)
    told = scheduler_module.threading.Condition
    monkeypatch.setattr(
        scheduler_module.threading, "Condition", lambda lock=None: threading.Condition(lock) if lock else told()
    )
    race(Desk, lambda desk: desk.scheduler.drain(0), lambda desk: desk.scheduler.stop(), check, scheduler_module)

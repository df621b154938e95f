"""Threads of a lane that meet at the worst moment, and what each waits for; see tests.mutations."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from embedge.lanes import Outcome, in_flight, pending
from embedge.lanes.pending import PendingBatches
from embedge.lanes.watchdog import Watchdog
from tests.runtime.races import locks, race
from tests.runtime.scripted import Rig, batch

ERROR = TimeoutError("it hangs")
PATIENCE = 5.0  # seconds, where a test that went wrong waits for what does not come


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedge.lanes.lane._BACKOFF_SECONDS", 0.0)


class Open:
    """A lane's open batches: one that was taken, and one that is about to be. answered: how often each was."""

    def __init__(self) -> None:
        self.answered: Counter[Any] = Counter()
        self.pending = PendingBatches(lambda each, _: self.answered.update(each.entries), lambda: 0.0)
        self.here, self.next = batch("here"), batch("next")
        self.pending.add(self.here)

    def add(self) -> None:
        if self.pending.add(self.next):
            self.pending.answer(self.next, Outcome())

    def take(self) -> None:
        self.pending.add(self.next)

    def answer(self) -> None:
        self.pending.answer(self.here, Outcome())

    def abandon(self) -> None:
        self.pending.abandon(ERROR)

    def look(self) -> None:
        self.pending.hangs(100.0, 30.0)


@pytest.mark.parametrize(("first", "second"), [("add", "abandon"), ("abandon", "add")])
def test_a_batch_that_is_taken_while_its_lane_is_given_up_is_answered_once(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    def check(opened: Open) -> None:
        assert opened.answered == {"here": 1, "next": 1}

    locks(monkeypatch, pending)
    race(Open, getattr(Open, first), getattr(Open, second), check, pending)


@pytest.mark.parametrize(("first", "second"), [("answer", "abandon"), ("abandon", "answer")])
def test_a_batch_that_ends_while_its_lane_is_given_up_is_answered_once(
    monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    def check(opened: Open) -> None:
        assert opened.answered == {"here": 1}

    locks(monkeypatch, pending)
    race(Open, getattr(Open, first), getattr(Open, second), check, pending)


@pytest.mark.parametrize("second", ["take", "answer"])
def test_the_watch_may_look_while_batches_come_and_go(monkeypatch: pytest.MonkeyPatch, second: str) -> None:
    locks(monkeypatch, pending)
    race(Open, Open.look, getattr(Open, second), lambda opened: None, pending)


def test_a_lane_in_its_back_off_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedge.lanes.lane._BACKOFF_SECONDS", 1e6)
    rig = Rig()
    rig.broken = True
    rig.lane.start()
    rig.until(lambda: rig.words == [False])
    assert rig.lane.join(PATIENCE)
    assert not rig.lane.given_up


def test_a_lane_that_fails_again_waits_longer_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedge.lanes.lane._BACKOFF_SECONDS", 7.0)
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return self.is_set()

    rig = Rig(stop=Stop())
    rig.broken = True
    with rig:
        rig.until(lambda: rig.lane.given_up)
    assert waits == [7.0, 14.0]


def test_a_lane_that_begins_anew_measures_nothing_again() -> None:
    measured: list[Any] = []
    with Rig(warm_up=measured.append) as rig:
        rig.until(lambda: rig.words == [True])
        rig.lost, rig.heals = RuntimeError("illegal address"), True
        rig.lane.wake()
        rig.until(lambda: rig.words == [True, False, True])
    assert len(measured) == 1


def test_a_lane_tests_itself_only_once_nothing_is_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    rig, waits = Rig(held=["a0", "b0"]), []

    class Condition(threading.Condition):
        def wait(self, timeout: float | None = None) -> bool:
            if threading.current_thread() is rig.thread:
                rig.note(lambda: waits.append("for the device"))
            return super().wait(timeout)

    monkeypatch.setattr(in_flight, "threading", SimpleNamespace(**{**vars(threading), "Condition": Condition}))
    with rig:
        rig.bad.add("a0")
        rig.push(batch("a"), batch("b"))
        rig.until(lambda: len(waits) == 1)  # until one of two has ended
        rig.let("a0")
        rig.until(lambda: len(waits) == 2 or rig.log.count("start probe") == 2)
        assert rig.log.count("start probe") == 1
        rig.let("b0")
        rig.ends("a", "b")


def test_who_ends_a_lane_waits_no_longer_than_it_wants_to() -> None:
    with Rig(held=["a0"]) as rig:
        rig.push(batch("a"))
        rig.until(lambda: "start a0" in rig.log)
        assert not rig.lane.join(0.0)


def test_a_lane_that_was_ended_has_no_thread_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the thread has said that it is over, and still is on its way."""
    gone = threading.Event()

    class Ended(threading.Event):
        def set(self) -> None:
            super().set()
            gone.wait(PATIENCE)

    rig = Rig(max_in_flight=1, ended=Ended())  # with more, the lane joins the thread of its results as well
    real = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda *given: (gone.set(), real(*given)))
    with rig:
        rig.until(lambda: rig.idle)
    assert rig.thread is not None
    assert not rig.thread.is_alive()


def test_an_abandoned_lane_does_not_begin_anew() -> None:
    rig = Rig(held=["a0"])
    rig.lane.start()
    rig.push(batch("a"))
    rig.until(lambda: "start a0" in rig.log)
    rig.lane.abandon(ERROR)
    rig.broken = True
    rig.let("a0")
    rig.gone()
    assert rig.log.count("open") == rig.log.count("close") == 1


def test_a_lane_that_computes_row_by_row_is_late_when_a_row_is() -> None:
    class Slow(Rig):
        """Each row that runs alone takes ten seconds."""

        def act(self, what: str) -> None:
            super().act(what)
            if what.startswith("start a"):
                self.now += 10.0
                watch.check(self.now)

    rig = Slow(max_in_flight=1)
    rig.bad.add("a0")
    late: list[float] = []
    watch = Watchdog(lambda: [rig.lane], lambda _, inside: late.append(inside), hang_seconds=25)
    with rig:
        rig.push(batch("a", rows=4))
        rig.ends("a")
    assert rig.now == 50.0
    assert late == []


@pytest.mark.parametrize("what", ["test", "measure"])
def test_a_lane_that_opens_is_late_when_a_batch_is(what: str) -> None:
    """Each batch takes 200 seconds, of the 300 that a lane has; all of them take longer."""

    class Slow(Rig):
        def act(self, what: str) -> None:
            super().act(what)
            if what.startswith("start"):
                self.now += 200.0
                watch.check(self.now)

    options: dict[str, Any] = {"probes": [batch("p", rows=1)] * 4}
    if what == "measure":
        options = {"warm_up": lambda compute: [compute(batch("w", rows=1)) for _ in range(4)]}
    rig = Slow(max_in_flight=1, **options)
    late: list[float] = []
    watch = Watchdog(lambda: [rig.lane], lambda _, inside: late.append(inside), hang_seconds=30)
    with rig:
        rig.until(lambda: rig.words == [True])
    assert rig.now >= 800.0
    assert late == []


def test_a_lane_that_had_nothing_to_do_for_long_has_time_to_close() -> None:
    class Slow(Rig):
        def close(self, executor: Any) -> None:
            watch.check(self.now + 299.0)
            super().close(executor)

    rig = Slow(max_in_flight=1)
    late: list[float] = []
    watch = Watchdog(lambda: [rig.lane], lambda _, inside: late.append(inside), hang_seconds=30)
    with rig:
        rig.until(lambda: rig.idle)
        rig.now = 1e4
    assert rig.log[-1] == "close"
    assert late == []

"""Lanes that hang while they open, test, or close what they work at: a virtual clock where there can be one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from embedge import BackendError
from embedge.lanes import Executor
from tests.runtime import played as plays
from tests.runtime.heard import Heard
from tests.runtime.played import POISON, played
from tests.runtime.scripted import Rig, batch
from tests.runtime.test_watchdog import late, watched

LONG = 30.0


class Slow(Rig):
    """Its executor opens when `let("open")` is called, and closes when `let("close")` is."""

    def open(self, wake: Callable[[], None], on_progress: Callable[[], None]) -> Executor:
        self.thread, self.on_progress = threading.current_thread(), on_progress
        self.act("opening")
        self.until(lambda: "open" not in self.held)
        return super().open(wake, on_progress)

    def close(self, executor: Executor) -> None:
        self.act("closing")
        self.until(lambda: "close" not in self.held)
        super().close(executor)


@pytest.mark.parametrize(("held", "seen"), [("open", "opening"), ("probe", "start probe")])
def test_a_lane_has_five_minutes_to_open_and_to_test_itself(held: str, seen: str) -> None:
    rig = Slow(max_in_flight=1, held=[held])
    watch, replaced = watched(rig)
    rig.lane.start()
    rig.push(batch("a"))
    rig.until(lambda: seen in rig.log)

    watch.check(300.0)
    assert not replaced
    watch.check(300.5)
    assert replaced == [rig.lane]
    assert "300.5" in str(rig.lane.error)

    rig.let(held)
    rig.gone()
    assert not rig.lane.alive
    assert not rig.outcomes, "it takes no work when it comes back, and what waits is for another lane"
    assert rig.log[-1] == "close"


def test_each_step_has_time_of_its_own() -> None:
    with Slow(max_in_flight=1, held=["open"]) as rig:
        watch, replaced = watched(rig)
        rig.until(lambda: "opening" in rig.log)
        rig.now = 299.0
        rig.on_progress()
        watch.check(599.0)
        assert not replaced
        rig.let("open")
        rig.push(batch("a"))
        rig.ends("a")
        watch.check(1e9)
        assert not replaced, "it is open, and has nothing to do"


def test_a_lane_that_hangs_as_it_leaves_a_broken_device_is_replaced() -> None:
    rig = Slow(max_in_flight=1, held=["close"])
    watch, replaced = watched(rig)
    rig.lane.start()
    rig.until(lambda: rig.words)
    rig.broken = True
    rig.push(batch("a"))
    rig.until(lambda: "closing" in rig.log)
    watch.check(300.5)
    assert replaced == [rig.lane]
    rig.let("close")
    rig.gone()
    watch.check(1e9)
    assert replaced == [rig.lane], "it is gone, and hangs no more"


@dataclass
class Stuck:
    """hangs: set by the test. reached: once a thread does."""

    hangs: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    inside: list[threading.Thread] = field(default_factory=list)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    """Opening a session hangs once it is told to; the threads that do end with the test."""
    made = Stuck()
    real = plays.Slot.open

    def hang(self: plays.Slot, name: str, path: Path) -> plays.Session:
        if made.hangs.is_set():
            made.inside.append(threading.current_thread())
            made.reached.set()
            assert made.gate.wait(LONG)
        return real(self, name, path)

    monkeypatch.setattr(plays.Slot, "open", hang)
    yield made
    made.gate.set()
    for thread in made.inside:
        thread.join(LONG)


@pytest.mark.parametrize("lanes", [1, 2])
def test_an_embedder_whose_lanes_hang_as_they_open_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: Stuck, lanes: int
) -> None:
    stuck.hangs.set()
    with (
        pytest.raises(BackendError, match="the lane hung: it was opening or closing its sessions for"),
        played(tmp_path, monkeypatch, hang_seconds=0.01, lanes=lanes),
    ):
        pass
    assert len(stuck.inside) == 1, "nothing takes its place: the model was never there"


def test_a_lane_that_hangs_as_it_comes_back_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: Stuck
) -> None:
    with played(tmp_path, monkeypatch) as (embedder, play):
        heard = Heard(embedder)
        play.after = lambda: setattr(play, "broken", True)
        stuck.hangs.set()
        with pytest.raises(BackendError, match="the lane failed"):
            embedder.embed([POISON])
        heard.wait_for(True, False)
        (old,) = embedder._pool.lanes
        assert stuck.reached.wait(LONG)
        stuck.hangs.clear()
        play.broken = False
        late(embedder)
        heard.wait_for(True, False, False, True)
        assert embedder.embed(["a cat"]).shape == (1, 16)
        assert embedder._pool.abandoned == [old], "though it holds what it had when it hung"

"""Lanes with several batches in flight: real threads at a device that the test plays, and no sleeps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge.scheduling.fair_queue import Entry
from tests.runtime.scripted import Rig, batch
from tests.runtime.simulation import Machine, SimCall, World


@pytest.fixture(autouse=True)
def no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedge.lanes.lane._BACKOFF_SECONDS", 0.0)


def test_the_next_batch_begins_while_one_computes_and_no_more_than_the_depth_are_in_flight() -> None:
    with Rig(max_in_flight=2, held=["a0", "b0", "c0"]) as rig:
        rig.push(batch("a"), batch("b"), batch("c"))
        rig.until(lambda: "start b0" in rig.log)
        assert "end a0" not in rig.log
        rig.let("a0")
        rig.until(lambda: "start c0" in rig.log)
        rig.let("b0", "c0")
        rig.ends("a", "b", "c")

    assert [name for name, _ in rig.outcomes] == ["a", "b", "c"]
    steps = [step for step in rig.log if step.startswith(("start", "end")) and "probe" not in step]
    assert steps.index("start b0") < steps.index("end a0") < steps.index("start c0")


def test_each_thread_does_its_own_part() -> None:
    with Rig(max_in_flight=2) as rig:
        rig.push(batch("a"))
        rig.ends("a")

    assert rig.threads["open"] == rig.threads["start"] == rig.threads["close"] == {"embedge-test"}
    assert rig.threads["attach"] == rig.threads["detach"] == {"embedge-test-results"}
    assert rig.log[-2:] == ["detach", "close"]
    assert rig.thread is not None
    assert not rig.thread.is_alive()


def test_a_depth_of_one_has_no_second_thread() -> None:
    with Rig(max_in_flight=1, held=["a0"]) as rig:
        rig.push(batch("a"), batch("b"))
        rig.until(lambda: "start a0" in rig.log)
        assert "embedge-test-results" not in {thread.name for thread in threading.enumerate()}
        rig.let("a0")
        rig.ends("a", "b")

    assert rig.threads["end"] == {"embedge-test"}
    assert "attach" not in rig.log


def test_a_batch_costs_what_it_took_after_the_one_before_it() -> None:
    with Rig(max_in_flight=2, held=["a0", "b0"]) as rig:
        rig.push(batch("a"))
        rig.until(lambda: "start a0" in rig.log)
        rig.now = 1.0
        rig.push(batch("b"))
        rig.until(lambda: "start b0" in rig.log)
        rig.now = 5.0
        rig.let("a0")
        rig.until(lambda: rig.outcomes)
        rig.now = 8.0
        rig.let("b0")
        found = rig.ends("a", "b")

    assert (found["a"].seconds, found["b"].seconds) == (5.0, 3.0)


@pytest.mark.parametrize("kind", ["bad", "unstarted"])
def test_rows_of_a_batch_that_fails_run_alone_once_all_in_flight_has_ended(kind: str) -> None:
    with Rig(max_in_flight=2, held=["a0", "b0"]) as rig:
        getattr(rig, kind).add("a1")
        rig.push(batch("a"), batch("b"))
        rig.until(lambda: "start b0" in rig.log)
        rig.let("a0", "b0")
        found = rig.ends("a", "b")

    assert [name for name, _ in rig.outcomes] == ["b", "a"]
    assert set(found["a"].faults) == {1}
    assert [list(group.rows) for group in found["a"].groups] == [[0]]
    assert found["a"].seconds is None
    assert found["b"].error is None
    assert len(found["b"].groups) == 1
    assert rig.log.count("open") == 1


def test_a_lane_that_waits_for_work_hears_of_a_failure() -> None:
    with Rig(max_in_flight=2, held=["a0"]) as rig:
        rig.bad.add("a0")
        rig.push(batch("a"))
        rig.until(lambda: "start a0" in rig.log and rig.idle)
        rig.let("a0")
        found = rig.ends("a")

    assert set(found["a"].faults) == {0}


def test_all_that_is_in_flight_on_a_dead_device_is_answered_and_the_lane_opens_anew() -> None:
    with Rig(max_in_flight=3, held=["a0", "b0", "c0"]) as rig:
        rig.push(batch("a"), batch("b"), batch("c"))
        rig.until(lambda: "start c0" in rig.log)
        rig.broken = rig.heals = True
        rig.let("a0", "b0", "c0")
        found = rig.ends("a", "b", "c")
        rig.until(lambda: rig.words == [True, False, True])
        rig.push(batch("d"))
        again = rig.ends("a", "b", "c", "d")

    assert all("on fire" in str(found[name].error) for name in "abc")
    assert again["d"].error is None


def test_a_lane_whose_device_is_lost_through_another_dies_at_once() -> None:
    with Rig(max_in_flight=2) as rig:
        rig.until(lambda: rig.idle)
        rig.lost, rig.heals = RuntimeError("illegal address"), True
        rig.lane.wake()
        rig.until(lambda: rig.words == [True, False, True])

    assert rig.log.count("open") == 2


def test_a_wake_with_nothing_wrong_changes_nothing() -> None:
    with Rig(max_in_flight=2) as rig:
        rig.until(lambda: rig.idle)
        rig.lane.wake()
        rig.push(batch("a"))
        assert rig.ends("a")["a"].error is None

    assert rig.words == [True]


def test_a_lane_that_cannot_attach_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("no context")

    monkeypatch.setattr("tests.runtime.scripted.Slot.attach", refuse)
    with Rig(max_in_flight=2) as rig:
        rig.until(lambda: rig.lane.given_up)

    assert "no context" in str(rig.lane.error)
    assert rig.log.count("open") == rig.log.count("close") == 3


def test_a_lane_that_is_called_away_leaves_the_work_to_others() -> None:
    world = World(1, Machine())
    away = threading.Event()
    with ThreadPoolExecutor(2) as lanes:
        called, other = lanes.submit(world.scheduler.take, away.is_set), lanes.submit(world.scheduler.take)
        away.set()
        world.scheduler.interrupt()
        assert called.result(30) is None
        call = SimCall(world, 0, [5], tower="text", deadline=None, priority="interactive")
        world.scheduler.admit(call, 1, 5, 40)
        world.scheduler.push(call, [Entry(call, 0, {}, 5)])
        taken = other.result(30)
        assert world.scheduler.take(away.is_set) is None, "also with work in the queue it takes none"
        world.scheduler.stop()

    assert taken is not None
    assert taken.towers == ["text"]


KINDS = st.sampled_from(["good", "good", "bad", "unstarted", "all bad"])


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(KINDS, max_size=12), max_in_flight=st.integers(1, 3), breaks=st.booleans())
def test_whatever_happens_each_batch_is_answered_once(kinds: list[str], max_in_flight: int, breaks: bool) -> None:
    rig = Rig(max_in_flight=max_in_flight)
    names = [f"n{place}-" for place in range(len(kinds))]
    for name, kind in zip(names, kinds, strict=True):
        if kind != "good":
            rig.__dict__["unstarted" if kind == "unstarted" else "bad"].add(f"{name}0")
        if kind == "all bad":
            rig.bad.add(f"{name}1")
    with rig:
        rig.heals = True
        rig.push(*map(batch, names[: len(names) // 2]))
        rig.until(lambda: rig.outcomes or not names[: len(names) // 2])
        rig.broken = breaks
        rig.push(*map(batch, names[len(names) // 2 :]))
        found = rig.ends(*names)

    for name, kind in zip(names, kinds, strict=True):
        if found[name].error is None:
            assert set(found[name].faults) == {"good": set(), "all bad": {0, 1}}.get(kind, {0})
        else:
            assert breaks, "nothing broke, but a batch was lost"

"""Lanes that hang: a virtual clock, batches that end when the test lets them, and no sleeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from embedge import BackendError, Embedder, Reply, Request, Unavailable
from embedge.lanes import Lane
from embedge.lanes.watchdog import Watchdog
from tests.runtime.heard import Heard
from tests.runtime.played import WAIT, Play, played
from tests.runtime.scripted import Rig, batch

LONG = 30.0


@pytest.fixture(params=[1, 2], ids=["max_in_flight 1", "max_in_flight 2"])
def model(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Embedder, Play]]:
    with played(tmp_path, monkeypatch, max_in_flight=request.param) as opened:
        yield opened


def watched(rig: Rig) -> tuple[Watchdog, list[Lane]]:
    """Return a watch over the rig's lane, and the lanes that it replaced."""
    replaced: list[Lane] = []

    def replace(lane: Lane, inside: float) -> None:
        replaced.append(lane)
        lane.abandon(TimeoutError(f"{inside:g} s"))

    return Watchdog(lambda: [rig.lane], replace, hang_seconds=30), replaced


@pytest.mark.parametrize("max_in_flight", [1, 2])
def test_a_lane_is_late_when_it_takes_much_longer_than_predicted_and_not_before(max_in_flight: int) -> None:
    rig = Rig(max_in_flight=max_in_flight, held=["a0"])
    watch, replaced = watched(rig)
    rig.lane.start()
    rig.now = 100.0
    watch.check(1e9)  # it has nothing to do
    rig.push(batch("a", predicted=2.0))
    rig.until(lambda: "start a0" in rig.log)

    watch.check(150.0)
    assert not replaced
    watch.check(150.5)
    assert replaced == [rig.lane]
    assert "50.5" in str(rig.ends("a")["a"].error)
    assert not rig.lane.alive
    assert not rig.lane.join(LONG), "its thread is still inside"

    rig.let("a0")
    rig.gone()
    assert len(rig.outcomes) == 1, "what it delivers late goes nowhere"
    assert rig.log[-1] == "close"


def test_all_that_a_hanging_lane_has_in_flight_is_answered() -> None:
    rig = Rig(max_in_flight=2, held=["a0", "b0"])
    watch, _ = watched(rig)
    rig.lane.start()
    rig.push(batch("a"), batch("b"), batch("c"))
    rig.until(lambda: "start b0" in rig.log)

    watch.check(31.0)

    assert all(outcome.error is not None for outcome in rig.ends("a", "b").values())
    rig.let("a0", "b0")
    rig.gone()
    assert len(rig.outcomes) == 2, "it takes no more, and c is for another lane"


def test_each_batch_in_flight_has_time_of_its_own() -> None:
    with Rig(max_in_flight=2, held=["a0", "b0"]) as rig:
        watch, replaced = watched(rig)
        rig.push(batch("a"), batch("b"))
        rig.until(lambda: "start b0" in rig.log)
        rig.now = 29.0
        watch.check(rig.now)
        rig.let("a0")
        rig.until(lambda: rig.outcomes)
        watch.check(58.0)
        assert not replaced
        rig.let("b0")
        rig.ends("a", "b")


def late(embedder: Embedder) -> None:
    """Look at the lanes as if a day had passed."""
    embedder._pool.check(time.perf_counter() + 86400)


def ask(embedder: Embedder, *texts: str) -> Future[Reply]:
    return embedder.submit(Request(items=list(texts)))


def test_who_waits_for_a_lane_that_hangs_is_told_and_another_lane_serves(model: tuple[Embedder, Play]) -> None:
    embedder, play = model
    heard = Heard(embedder)
    hung = ask(embedder, WAIT)
    assert play.entered.wait(LONG)

    late(embedder)

    with pytest.raises(BackendError, match="the lane failed"):
        hung.result(LONG)
    heard.wait_for(True, False, True)
    assert embedder.embed(["a cat"]).shape == (1, 16)
    play.gate.set()
    play.threads[0].join(LONG)
    assert embedder.embed(["a dog"]).shape == (1, 16)
    assert embedder.drain(LONG), "each batch was counted as done once"
    assert embedder.stats()["running_batches"] == 0


def test_a_model_whose_lanes_hang_again_and_again_is_given_up(
    model: tuple[Embedder, Play], caplog: pytest.LogCaptureFixture
) -> None:
    embedder, play = model
    heard = Heard(embedder)
    words = [True]
    for _ in range(3):
        play.entered.clear()
        hung = ask(embedder, WAIT)
        assert play.entered.wait(LONG)
        late(embedder)
        with pytest.raises(BackendError):
            hung.result(LONG)
        words += [False, True]
        if _ < 2:
            heard.wait_for(*words)
    embedder._pool.lanes[0].join(LONG)

    assert not embedder.serving
    with pytest.raises(Unavailable, match="all are given up; restart"):
        embedder.embed(["a cat"])
    assert "no lane is left; restart the process" in caplog.text


def test_close_does_not_wait_for_a_lane_that_was_abandoned(model: tuple[Embedder, Play]) -> None:
    embedder, play = model
    hung = ask(embedder, WAIT)
    assert play.entered.wait(LONG)
    late(embedder)
    with pytest.raises(BackendError):
        hung.result(LONG)

    embedder.close()

    assert play.threads[0].is_alive()

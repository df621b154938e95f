"""What happens when a lane, a batch or a row goes wrong: real threads, a backend that the test plays, and no sleeps."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import BackendError, Embedder, Reply, Request, RuntimeConfig, Unavailable
from embedge.backends import onnxruntime
from tests.runtime.heard import Heard
from tests.runtime.played import NAN, POISON, WAIT, ZERO, Play, played
from tests.tiny import tiny_tokenizer
from tests.tiny_kinds import tiny_kinds

GOOD = ["a red cat", "the small dog sleeps", "a bird"]
LONG = 30.0


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Play]]:
    with played(tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture(params=[1, 2], ids=["max_in_flight 1", "max_in_flight 2"])
def any_model(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Embedder, Play]]:
    """A model with one batch in flight, and one with two."""
    with played(tmp_path, monkeypatch, max_in_flight=request.param) as opened:
        yield opened


@pytest.fixture
def two_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Play]]:
    with played(tmp_path, monkeypatch, lanes=2, max_batch_size=1) as opened:
        yield opened


def ask(embedder: Embedder, *texts: str) -> Future[Reply]:
    return embedder.submit(Request(items=list(texts)))


def test_a_row_that_no_batch_survives_fails_alone(any_model: tuple[Embedder, Play]) -> None:
    embedder, play = any_model
    blocked = ask(embedder, WAIT)
    assert play.entered.wait(LONG)
    neighbour, poisoned = ask(embedder, *GOOD), ask(embedder, "a dog", f"the {POISON} falls", "a cat")
    play.gate.set()

    reply = poisoned.result(LONG)

    assert set(reply.errors) == {1}
    assert isinstance(reply.errors[1], BackendError)
    assert "item 1" in str(reply.errors[1])
    assert "fire" not in str(reply.errors[1]), "the message leaks what the backend said"
    alone = embedder.embed(["a dog", "a cat"])
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 2]], alone)
    assert not reply.outputs["dense"].values[1].any()
    np.testing.assert_array_equal(neighbour.result(LONG).vectors, embedder.embed(GOOD))
    assert blocked.result(LONG).errors == {}
    assert play.opened == 1
    assert embedder.serving


@pytest.mark.parametrize("word", [NAN, ZERO])
def test_a_row_without_a_vector_fails_alone(any_model: tuple[Embedder, Play], word: str) -> None:
    embedder, _ = any_model

    reply = embedder.run(Request(items=["a cat", word, "a dog"]))

    assert set(reply.errors) == {1}
    assert "no finite vector" in str(reply.errors[1])
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 2]], embedder.embed(["a cat", "a dog"]))
    with pytest.raises(BackendError, match="item 1"):
        _ = reply.vectors


def test_a_dead_lane_frees_every_waiter_is_told_and_rebuilt(any_model: tuple[Embedder, Play]) -> None:
    embedder, play = any_model
    heard = Heard(embedder)
    running = ask(embedder, WAIT, POISON)
    assert play.entered.wait(LONG)
    waiting = [ask(embedder, "a cat") for _ in range(20)]
    play.broken = True
    play.gate.set()

    with pytest.raises(BackendError, match="the lane failed"):
        running.result(LONG)
    heard.wait_for(True, False)
    for future in waiting:
        with pytest.raises((BackendError, Unavailable)):
            future.result(LONG)
    stats = embedder.stats()
    assert stats["waiting_items"] == stats["open_calls"] == 0


def test_a_lane_that_recovers_serves_again(any_model: tuple[Embedder, Play]) -> None:
    embedder, play = any_model
    heard = Heard(embedder)

    play.broken = play.heals = True
    with pytest.raises((BackendError, Unavailable)):
        embedder.embed(["a cat"])
    heard.wait_for(True, False, True)

    assert embedder.serving
    assert embedder.embed(["a cat"]).shape == (1, 16)
    assert (play.opened, play.closed) == (2, 1)


def test_a_lane_that_fails_again_and_again_is_given_up(any_model: tuple[Embedder, Play]) -> None:
    embedder, play = any_model
    play.broken = True

    with pytest.raises((BackendError, Unavailable)):
        embedder.embed(["a cat"])
    play.threads[0].join(LONG)

    assert play.opened == play.closed == 3
    assert not embedder.serving
    with pytest.raises(Unavailable, match="no lane is alive"):
        embedder.embed(["a cat"])
    assert isinstance(embedder._pool.lanes[0].error, RuntimeError)


def test_one_dead_lane_of_two_leaves_the_model_serving(two_lanes: tuple[Embedder, Play]) -> None:
    embedder, play = two_lanes
    heard = Heard(embedder)
    play.shut, play.after = True, lambda: setattr(play, "broken", True)

    with pytest.raises(BackendError):
        ask(embedder, POISON).result(LONG)
    heard.wait_for(True, True)
    play.broken = False

    (dead,) = (lane for lane in embedder._pool.lanes if not lane.alive)
    assert embedder.serving
    assert embedder.embed(GOOD).shape == (3, 16)
    dead.join(LONG)
    assert False not in heard.words


def test_a_failed_call_leaves_nothing_in_the_queue(two_lanes: tuple[Embedder, Play]) -> None:
    embedder, play = two_lanes
    blocked = ask(embedder, WAIT)
    assert play.entered.wait(LONG)
    play.shut, play.after = True, lambda: setattr(play, "broken", True)

    with pytest.raises(BackendError):
        ask(embedder, POISON, *["a white house"] * 500).result(LONG)
    play.broken = False
    play.gate.set()

    assert blocked.result(LONG).errors == {}
    assert embedder.drain(LONG)
    assert embedder.stats()["items"] == 2


def test_a_model_whose_sessions_do_not_open_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.runtime.played.Slot.open", lambda *_, **__: (_ for _ in ()).throw(OSError("no device")))

    with pytest.raises(BackendError, match="no device"), played(tmp_path, monkeypatch):
        pass


def test_close_frees_whoever_waits(model: tuple[Embedder, Play]) -> None:
    embedder, play = model
    running = ask(embedder, WAIT)
    assert play.entered.wait(LONG)
    waiting = ask(embedder, *GOOD)
    closing = threading.Thread(target=embedder.close)  # owned by this test; waits for the batch that runs
    closing.start()

    with pytest.raises(Unavailable, match="closed"):
        waiting.result(LONG)
    play.gate.set()
    closing.join(LONG)

    assert running.result(LONG).errors == {}, "what ran already is finished"
    assert play.opened == play.closed
    assert not embedder.serving
    with pytest.raises(Unavailable, match="closed"):
        embedder.embed(GOOD)
    embedder.close()


def test_drain_finishes_what_was_admitted_and_refuses_the_rest(any_model: tuple[Embedder, Play]) -> None:
    embedder, play = any_model
    admitted = [ask(embedder, WAIT), ask(embedder, *GOOD)]
    assert play.entered.wait(LONG)

    assert not embedder.drain(0)
    with pytest.raises(Unavailable, match="shutting down"):
        embedder.embed(GOOD)
    play.gate.set()
    assert embedder.drain(LONG)

    for future in admitted:
        assert future.result(LONG).errors == {}


def test_a_lane_rebuilt_during_a_drain_lets_nobody_in(model: tuple[Embedder, Play]) -> None:
    embedder, _ = model
    assert embedder.drain(LONG)

    embedder._lane_changed()

    with pytest.raises(Unavailable, match="shutting down"):
        embedder.embed(GOOD)


def test_refusals_do_not_share_one_error(any_model: tuple[Embedder, Play]) -> None:
    embedder, _ = any_model
    embedder.drain(LONG)
    errors = []
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            embedder.embed(GOOD)
        errors.append(refused.value)

    assert errors[0] is not errors[1]


def test_a_cancelled_call_never_reaches_the_lane(model: tuple[Embedder, Play]) -> None:
    embedder, play = model
    running = ask(embedder, WAIT)
    assert play.entered.wait(LONG)
    dropped = ask(embedder, POISON)
    kept = ask(embedder, "a dog")

    assert dropped.cancel()
    play.gate.set()

    assert running.result(LONG).errors == kept.result(LONG).errors == {}
    assert not play.seen(POISON)
    assert embedder.stats()["waiting_items"] == 0


def test_a_lane_takes_what_is_pushed_while_somebody_drains(any_model: tuple[Embedder, Play]) -> None:
    """A push wakes a lane, not only whoever waits on the same condition."""
    embedder, play = any_model
    call = ask(embedder, WAIT, *["a cat"] * 600)  # prepared in several chunks
    assert play.entered.wait(LONG)
    drained: Future[bool] = Future()
    draining = threading.Thread(target=lambda: drained.set_result(embedder.drain(LONG)))  # owned by this test
    draining.start()
    play.gate.set()

    assert call.result(LONG).errors == {}
    assert drained.result(LONG)
    draining.join(LONG)


class Touchy:
    """A real session that fails a batch which holds the poison."""

    def __init__(self, session: Any, poison: int) -> None:
        self.session, self.poison = session, poison

    def start(self, feeds: Any) -> Any:
        if (feeds.get("input_ids") == self.poison).any():
            raise RuntimeError("the device is on fire")
        return self.session.start(feeds)

    def close(self) -> None:
        self.session.close()


def test_rows_that_are_computed_one_by_one_keep_their_own_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison, real = tiny_tokenizer().token_to_id(POISON), onnxruntime.CpuSlot.open
    monkeypatch.setattr(onnxruntime.CpuSlot, "open", lambda *a: Touchy(real(*a), poison))
    config = RuntimeConfig(towers=("text",), lanes=1, warm_up_seconds=0)
    with Embedder.open(tiny_kinds(tmp_path / "kinds"), config=config) as embedder:
        texts = ["a cat", f"the {POISON}", "the small dog sleeps"]
        reply = embedder.run(Request(items=texts, outputs=("tokens",)))
        alone = [embedder.embed([text], output="tokens") for text in (texts[0], texts[2])]

    assert set(reply.errors) == {1}
    tokens = reply.outputs["tokens"]
    assert [len(tokens[row]) for row in range(3)] == [4, 0, 6]
    for row, own in zip((0, 2), alone, strict=True):
        np.testing.assert_array_equal(tokens[row], own[0])

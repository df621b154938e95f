"""Calls that expire, are refused or are left, and who listens; the same for asyncio."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from embedge import AsyncEmbedder, DeadlineExceeded, Embedder, InvalidInput, NotFound, Overloaded, Request
from tests.runtime.models import LONG, QUICK, gated, model
from tests.runtime.played import Play
from tests.tiny import tiny_bundle

_ = gated, model


def test_a_call_that_expires_in_the_queue_is_told_and_never_runs(gated: tuple[Embedder, Play]) -> None:
    embedder, play = gated
    batches = len(play.batches)

    with pytest.raises(DeadlineExceeded):
        embedder.embed(["a cat"], timeout=0.02)

    assert embedder.stats()["waiting_items"] == 0
    play.gate.set()
    embedder.drain(LONG)
    assert len(play.batches) == batches


def test_a_submitted_call_that_expires_is_told_at_the_next_look(gated: tuple[Embedder, Play]) -> None:
    embedder, play = gated
    deadline = time.monotonic() + 0.01
    late = embedder.submit(Request(items=["a cat"], deadline=deadline))
    while time.monotonic() < deadline:
        pass  # the deadline must have passed when the lane looks; the clock is the real one
    play.gate.set()

    with pytest.raises(DeadlineExceeded):
        late.result(LONG)
    assert embedder.stats()["expired"] == 1


def test_a_full_queue_refuses_and_says_when_to_come_back(gated: tuple[Embedder, Play]) -> None:
    embedder, play = gated
    inside = embedder.submit(Request(items=["a cat"] * 990))

    with pytest.raises(Overloaded, match="max_queue_items") as refused:
        embedder.embed(["a dog"] * 11)
    assert refused.value.retry_after > 0
    play.gate.set()
    assert inside.result(LONG).errors == {}
    assert embedder.embed(["a dog"] * 11).shape == (11, 16)


def test_an_interrupt_while_waiting_leaves_nothing_behind(
    gated: tuple[Embedder, Play], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, play = gated

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("concurrent.futures.Future.result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedder.embed(["a cat"])
    monkeypatch.undo()

    stats = embedder.stats()
    assert stats["waiting_items"] == stats["open_calls"] == 0
    play.gate.set()


def test_a_listener_is_told_now_and_at_the_end_knows_the_truth(model: Embedder) -> None:
    told: list[bool] = []

    model.watch(told.append)

    assert told == [True]


# asyncio.


async def test_asyncio_gives_the_same(model: Embedder) -> None:
    twin = AsyncEmbedder(model)
    texts = ["a red cat", "the dog", "a bird sings"]

    vectors = await asyncio.gather(*(twin.embed([text], dim=8) for text in texts))

    np.testing.assert_array_equal(np.concatenate(vectors), model.embed(texts, dim=8))
    with pytest.raises(InvalidInput, match="item 0"):
        await twin.embed([""])
    with pytest.raises(NotFound):
        await twin.embed(["a cat"], prompt="poem")


async def test_asyncio_opens_and_closes(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "t" / "1")
    async with await AsyncEmbedder.open(path, config=QUICK) as model:
        assert (await model.embed(["a cat"])).shape == (1, 16)
    assert not model.embedder.serving


async def test_cancelling_a_task_drops_what_is_queued(gated: tuple[Embedder, Play]) -> None:
    embedder, play = gated
    batches = len(play.batches)
    task = asyncio.ensure_future(AsyncEmbedder(embedder).embed(["a cat"] * 10))
    await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert embedder.stats()["waiting_items"] == 0
    play.gate.set()
    await asyncio.to_thread(embedder.drain, LONG)
    assert len(play.batches) == batches


async def test_asyncio_timeout_is_a_deadline(gated: tuple[Embedder, Play]) -> None:
    embedder, _ = gated

    with pytest.raises(DeadlineExceeded):
        await AsyncEmbedder(embedder).embed(["a cat"], timeout=0.02)
    assert embedder.stats()["waiting_items"] == 0

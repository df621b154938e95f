"""The in-process API on a real (tiny) ONNX model: good input, bad input, deadlines, cancellation, asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import (
    AsyncEmbedder,
    BackendError,
    BundleError,
    DeadlineExceeded,
    Embedder,
    EmbedgeError,
    InvalidInput,
    NotFound,
    Overloaded,
    Request,
    RuntimeConfig,
    Unavailable,
)
from embedge.scheduler import Scheduler
from tests.runtime.played import WAIT, Play, played
from tests.tiny import PROMPTS, tiny_bundle, words

LONG = 30.0
QUICK = RuntimeConfig(lanes=1, warm_up_seconds=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    path = tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1")
    with Embedder.open(path, config=RuntimeConfig(lanes=2, warm_up_seconds=0.05, max_text_bytes=2_000_000)) as opened:
        yield opened


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Play]]:
    """A model whose only lane is busy until the test opens the gate."""
    with played(tmp_path, monkeypatch, max_queue_items=1000) as (embedder, play):
        embedder.submit(Request(items=[WAIT]))
        assert play.entered.wait(LONG)
        yield embedder, play


# Settings.


@pytest.mark.parametrize(
    "settings",
    [
        {"lanes": -1},
        {"hang_seconds": float("nan")},
        {"staging": 9},
        {"towers": "text"},
        {"gpu": "0"},
        {"captures": None},
    ],
)
def test_settings_that_were_never_checked_are(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"RuntimeConfig: .*{next(iter(settings))}"):
        Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(**settings))


def test_settings_may_be_paths_and_numbers_of_numpy(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trust_plans": [tmp_path / "key.pub"], "lanes": np.int64(1), "warm_up_seconds": 0}
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(**settings)) as embedder:
        assert embedder.config.trust_plans == (str(tmp_path / "key.pub"),)
        assert embedder.slots.lanes == 1


# Good input.


def test_a_row_of_a_batch_is_the_row_alone(model: Embedder) -> None:
    texts = [words(1 + number % 28, seed=number) for number in range(200)]

    together = model.embed(texts)

    alone = np.concatenate([model.embed([text]) for text in texts])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing_on_either_side(tmp_path: Path, side: str) -> None:
    with Embedder.open(tiny_bundle(tmp_path / "t" / "1", padding_side=side), config=QUICK) as model:
        texts = ["a", words(20, seed=1), "the red cat"]
        np.testing.assert_array_equal(model.embed(texts), np.concatenate([model.embed([text]) for text in texts]))


def test_10_000_items_in_one_call(model: Embedder) -> None:
    texts = [words(1 + number % 5, seed=number % 50) for number in range(10_000)]

    vectors = model.embed(texts)

    assert vectors.shape == (10_000, 16)
    few = model.embed(texts[:250])
    np.testing.assert_array_equal(vectors[5000:5250], few)


def test_no_items_are_no_vectors(model: Embedder) -> None:
    assert model.embed([]).shape == (0, 16)
    assert model.embed([], dim=4, dtype="float16").shape == (0, 4)
    assert model.submit(Request(items=[])).result(0).errors == {}


def test_the_reply_says_what_it_is(model: Embedder) -> None:
    reply = model.run(Request(items=["a red cat", "a dog"]))

    assert (reply.model, reply.version, reply.tower) == ("tiny", "1", "text")
    assert reply.tokens.tolist() == [5, 4]
    assert reply.tokens.dtype == np.int32
    assert list(reply.outputs) == ["dense"]
    assert reply.outputs["dense"].space == "tiny-16-0"
    assert min(reply.timings.prepare, reply.timings.queue, reply.timings.compute) >= 0


@pytest.mark.parametrize(
    "text",
    ["🙂🙃🎉", "zzz qqq xxx", "\U0001f468‍\U0001f469‍\U0001f467", "日本語", "a\u0000b", "á", "\u200b"],
    ids=ascii,
)
def test_odd_text_has_a_vector(model: Embedder, text: str) -> None:
    vectors = model.embed([text, "a cat"])

    assert np.isfinite(vectors).all()
    np.testing.assert_array_equal(vectors[1:], model.embed(["a cat"]))


def test_a_prompt_is_put_before_the_text(model: Embedder) -> None:
    prompted = model.embed(["a cat"], prompt="query")

    np.testing.assert_array_equal(prompted, model.embed([PROMPTS["query"] + "a cat"]))
    assert not np.array_equal(prompted, model.embed(["a cat"]))


def test_the_default_prompt_is_used_unless_an_empty_one_is_asked_for(tmp_path: Path) -> None:
    with Embedder.open(tiny_bundle(tmp_path / "t" / "1", default_prompt="passage"), config=QUICK) as model:
        prompted = model.embed([PROMPTS["passage"] + "a cat"], prompt="")

        np.testing.assert_array_equal(model.embed(["a cat"]), prompted)


def test_items_may_name_their_part(model: Embedder) -> None:
    np.testing.assert_array_equal(model.embed([{"text": "a cat"}]), model.embed(["a cat"]))


def test_several_towers_must_be_told_apart(tmp_path: Path) -> None:
    with Embedder.open(tiny_bundle(tmp_path / "t" / "1", towers=("query", "document")), config=QUICK) as model:
        with pytest.raises(NotFound, match="a tower must be named; these take such items: query, document"):
            model.embed(["a cat"])
        np.testing.assert_array_equal(
            model.embed(["a cat"], tower="query"), model.embed(["a cat"], tower="document", output="dense")
        )


def test_dimension_and_dtype(model: Embedder) -> None:
    full = model.embed(["a cat", "a dog"])

    cut = full[:, :8] / np.linalg.norm(full[:, :8], axis=1, keepdims=True)
    np.testing.assert_allclose(model.embed(["a cat", "a dog"], dim=8), cut, rtol=1e-6)
    assert model.embed(["a cat"], dtype="float16").dtype == np.float16
    assert model.embed(["a cat"], dtype="int8").dtype == np.int8
    np.testing.assert_array_equal(
        model.embed(["a cat", "a dog"], dtype="ubinary", dim=8), np.packbits(full[:, :8] > 0, axis=1)
    )


# Bad input: the request as a whole.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tower": "image"}, NotFound, "tower 'image' is unknown; 'tiny' has: text"),
        ({"output": "sparse"}, NotFound, "output 'sparse' is unknown; tower 'text' has: dense"),
        ({"prompt": "poem"}, NotFound, "prompt 'poem' is unknown; this model has: passage, query"),
        ({"dim": 0}, InvalidInput, "dim 0 is not possible"),
        ({"dim": -3}, InvalidInput, "dim -3 is not possible"),
        ({"dim": 17}, InvalidInput, "ask for 1 to 16"),
        ({"dim": 12, "dtype": "ubinary"}, InvalidInput, "multiple of 8"),
        ({"dtype": "float64"}, InvalidInput, "dtype 'float64' is unknown"),
        ({"timeout": 0}, DeadlineExceeded, "deadline"),
        ({"timeout": -1.0}, DeadlineExceeded, "deadline"),
    ],
)
def test_a_request_that_cannot_be_is_refused(
    model: Embedder, options: dict[str, Any], error: type[EmbedgeError], message: str
) -> None:
    before = model.stats()["items"]

    with pytest.raises(error, match=message):
        model.embed(["a cat"], **options)
    assert model.stats()["items"] == before


@pytest.mark.parametrize("items", ["a cat", b"a cat", {"text": "a cat"}])
def test_one_item_in_place_of_a_list_is_refused(model: Embedder, items: Any) -> None:
    with pytest.raises(InvalidInput, match="put it into a list"):
        model.embed(items)


# Bad input: one item of several.


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("", "item 1: the text is empty"),
        (" \t\n ", "item 1: the text is empty"),
        (words(40), "item 1: the text has 42 tokens, the model's limit is 32; .*truncate=True"),
        ("cat " * 262_144, "item 1: the text has more than 32 tokens, the model's limit is 32"),
        ("x" * 2_000_001, "item 1: the text has more than 2,000,000 bytes"),
        ("é" * 1_000_001, "item 1: the text has more than 2,000,000 bytes"),
        ("a \ud800 cat", "item 1: the text holds lone surrogates"),
        (None, "item 1: a text is needed here, not NoneType"),
        (7, "item 1: a text is needed here, not int"),
        (b"a cat", "item 1: a text is needed here, not bytes"),
        ({"image": "a cat"}, "item 1: part 'image' is unknown; this tower takes: text"),
        ({}, "item 1: part 'text' is missing"),
    ],
    ids=range(12),
)
def test_a_bad_item_fails_alone(model: Embedder, item: Any, message: str) -> None:
    reply = model.run(Request(items=["a cat", item, "a dog"]))

    assert set(reply.errors) == {1}
    assert reply.errors[1].index == 1
    with pytest.raises(EmbedgeError, match=message):
        _ = reply.vectors
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 2]], model.embed(["a cat", "a dog"]))
    assert not reply.outputs["dense"].values[1].any()
    assert reply.tokens[1] == 0


def test_many_bad_items_are_named(model: Embedder) -> None:
    with pytest.raises(InvalidInput, match=r"item 0: .* \(12 of 13 items failed: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, …\)"):
        model.embed([""] * 12 + ["a cat"])


def test_a_call_with_only_bad_items_ends(model: Embedder) -> None:
    reply = model.submit(Request(items=["", None, ""])).result(LONG)  # type: ignore[list-item]

    assert set(reply.errors) == {0, 1, 2}
    assert model.stats()["waiting_items"] == 0


def test_a_megabyte_is_cut_if_the_caller_allows_it(model: Embedder) -> None:
    cut = model.embed(["cat " * 262_144], truncate=True)

    np.testing.assert_array_equal(cut, model.embed(["cat " * 30]))


# Time, and who leaves.


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


# Opening and closing.


def test_who_drains_or_closes_does_not_serve_and_says_so(tmp_path: Path) -> None:
    told: list[bool] = []
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(warm_up_seconds=0)) as embedder:
        embedder.watch(told.append)
        assert embedder.drain(30)
        assert not embedder.serving
    assert told[0] is True
    assert not any(told[1:])
    assert len(told) == 3


def test_a_listener_that_fails_harms_nobody(model: Embedder) -> None:
    def fails(_: bool) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError):  # while it is being added, its error is its caller's
        model.watch(fails)
    assert model.embed(["still here"]).shape == (1, 16)


def test_a_list_larger_than_the_queue_goes_part_after_part(tmp_path: Path, model: Embedder) -> None:
    texts = ["a cat", "the sky", "a b c"] * 7
    config = RuntimeConfig(warm_up_seconds=0, max_queue_items=8)
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=config) as embedder:
        reply = embedder.run(Request(items=[*texts[:9], "", *texts[9:]]))
        assert list(reply.errors) == [9]
        np.testing.assert_allclose(np.delete(reply.outputs["dense"].values, 9, 0), model.embed(texts), atol=1e-6)
        with pytest.raises(InvalidInput, match="max_queue_items"):  # where nobody waits, it cannot be cut
            embedder.submit(Request(items=texts))


@pytest.mark.parametrize("kind", [tuple, iter, np.array, lambda texts: (text for text in texts)])
def test_items_may_be_any_iterable(model: Embedder, kind: Any) -> None:
    np.testing.assert_array_equal(model.embed(kind(["one", "two"])), model.embed(["one", "two"]))


def test_items_that_are_none_are_refused(model: Embedder) -> None:
    with pytest.raises(InvalidInput, match="list of items"):
        model.embed(7)  # type: ignore[arg-type]


def test_preparing_survives_a_fault_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(warm_up_seconds=0)) as embedder:
        with monkeypatch.context() as patch:
            patch.setattr(Scheduler, "push", lambda *_, **__: 1 / 0)
            with pytest.raises(BackendError, match="could not be prepared"):
                embedder.submit(Request(items=["a"])).result(30)
        assert embedder.submit(Request(items=["a"])).result(30).vectors.shape == (1, 16)


def test_opening_measures_and_the_next_start_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    path = tiny_bundle(tmp_path / "t" / "1")
    config = RuntimeConfig(warm_up_seconds=0.05)
    with Embedder.open(path, config=config) as first:
        assert first.costs["text"].measured
        slots = first.slots

    def measured_again(*_: object) -> None:
        raise AssertionError("the choice of lanes was stored")

    monkeypatch.setattr("embedge.crew.crew.measured", measured_again)
    with Embedder.open(path, config=config) as second:
        assert second.slots == slots


def test_a_stored_record_that_is_damaged_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    path = tiny_bundle(tmp_path / "t" / "1")
    config = RuntimeConfig(lanes=1, warm_up_seconds=0.05)
    Embedder.open(path, config=config).close()
    for record in (tmp_path / "cache").rglob("*.json"):
        record.write_bytes(b"{}")

    with Embedder.open(path, config=config) as model:
        assert model.embed(["a cat"]).shape == (1, 16)


def test_a_damaged_graph_is_refused_at_opening(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "t" / "1")
    (path / "model.onnx").write_bytes(b"no graph")

    with pytest.raises(BundleError, match="SHA-256"):
        Embedder.open(path)


@pytest.mark.parametrize("backend", ["quantum"])
def test_an_unknown_backend_lists_the_known_ones(tmp_path: Path, backend: str) -> None:
    with pytest.raises(NotFound, match="choose one of auto, tensorrt, onnxruntime"):
        Embedder.open(tiny_bundle(tmp_path / "t" / "1"), config=RuntimeConfig(backend=backend))


def test_settings_and_reasons_are_visible(model: Embedder) -> None:
    assert model.backend.startswith("onnxruntime ")
    assert "first in order" in model.backend_reason
    assert model.slots.lanes == 2
    assert model.serving


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


def test_after_close_nothing_is_admitted(tmp_path: Path) -> None:
    model = Embedder.open(tiny_bundle(tmp_path / "t" / "1"), config=QUICK)
    model.close()
    request = Request(items=["a cat"])

    for call in (model.run, model.submit):
        with pytest.raises(Unavailable, match="closed"):
            call(request)
    assert replace(request, items=[]).items == []

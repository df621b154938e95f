"""Items that are sets: their pieces ride with any others, and what is made of them does not depend on the company."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import (
    AsyncEmbedder,
    BundleError,
    DeadlineExceeded,
    Embedder,
    InvalidInput,
    MultiVectors,
    NotFound,
    Request,
    RuntimeConfig,
    Unavailable,
)
from embedge.backends.onnxruntime import OnnxRuntimeSession
from embedge.bundle import manifest as m
from embedge.bundle.output_specs import MultiVectorOutput
from embedge.content import Image
from tests.tiny import WORDS, words
from tests.tiny_composed import MOST, tiny_composed
from tests.tiny_towers import SIDE, vector

QUICK: dict[str, Any] = {"warm_up_seconds": 0, "lanes": 1}
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)
sets = st.lists(st.lists(texts, min_size=1, max_size=40), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_composed(tmp_path_factory.mktemp("sets") / "1")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Embedder]:
    with Embedder.open(path, config=RuntimeConfig(**QUICK)) as opened:
        yield opened


def mean(pieces: list[str]) -> NDArray[np.float32]:
    """Return the mean of the texts' vectors: of whole numbers, so their sum is exact, and rounded once."""
    total = sum(vector(text=piece).astype(np.float64) for piece in pieces)
    return np.asarray(total / len(pieces), np.float32)


@settings(max_examples=15, deadline=None)
@given(items=sets)
def test_the_mean_of_a_set_is_exact_in_any_company(model: Embedder, items: list[list[str]]) -> None:
    np.testing.assert_array_equal(model.embed(items, tower="mean"), [mean(each) for each in items])


@settings(max_examples=15, deadline=None)
@given(items=sets)
def test_a_graph_is_given_the_pieces_in_order_and_they_come_back(model: Embedder, items: list[list[str]]) -> None:
    reply = model.run(Request(items=items, tower="pages", outputs=("dense", "pages")))

    pieces = [np.stack([vector(text=f"passage: {piece}") for piece in each]) for each in items]
    weighed = [(each * np.arange(1, len(each) + 1, dtype=np.float32)[:, None]).sum(axis=0) for each in pieces]
    np.testing.assert_array_equal(reply.outputs["dense"].values, weighed)
    found = reply.outputs["pages"]
    assert isinstance(found, MultiVectors)
    assert np.diff(found.offsets).tolist() == [len(each) for each in items]
    np.testing.assert_array_equal(found.values, np.concatenate(pieces))
    assert reply.tokens.tolist() == [len(each) for each in items]


def test_the_highest_of_a_set_of_images(model: Embedder) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.uint8)
    items = [[Image(each) for each in pixels[:3]], [Image(each) for each in pixels[3:]]]
    each = np.stack([vector(image=image) for image in pixels])
    np.testing.assert_array_equal(model.embed(items, tower="brightest"), [each[:3].max(axis=0), each[3:].max(axis=0)])


def test_a_set_of_sets(model: Embedder) -> None:
    books = [["a cat", "a dog"], ["the sky"]]
    want = np.mean([mean(each).astype(np.float64) for each in books], axis=0).astype(np.float32)
    np.testing.assert_array_equal(model.embed([books], tower="shelf"), [want])


def test_a_set_is_one_part_among_others(model: Embedder) -> None:
    items = [{"texts": ["a cat", "a dog"], "title": "the sky"}, {"texts": ["a tree"], "title": "a"}]
    want = [mean(["a cat", "a dog"]) + vector(text="the sky"), mean(["a tree"]) + vector(text="a")]
    np.testing.assert_array_equal(model.embed(items), want)
    bad = {"texts": ["a cat", " "], "title": "a"}
    reply = model.run(Request(items=[bad, items[1], {"texts": ["a"]}], tower="titled"))
    assert {index: error.message for index, error in reply.errors.items()} == {
        0: "part 'texts': piece 1: the text is empty; leave it out, or send some text",
        2: "part 'title' is missing",
    }


def test_asyncio_gives_the_same(model: Embedder) -> None:
    items = [["a cat", "a dog"], ["the sky"]]
    np.testing.assert_array_equal(
        asyncio.run(AsyncEmbedder(model).embed(items, tower="mean")), model.embed(items, tower="mean")
    )
    assert model.embed([], tower="mean").shape == (0, 8)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([], "the set is empty"),
        ("a cat", "expected a list of pieces, not str"),
        (["a cat"] * 100_000, "the set has 100,000 pieces, more than 4,000"),
        (["a cat", "", "a dog", ""], "piece 1: the text is empty"),
        (["a cat", 5], "piece 1: a text is needed here, not int"),
        (["a cat", ["a dog"]], "piece 1: a text is needed here, not list"),
        ({"text": ["a cat"]}, "part 'text' is unknown"),
    ],
)
def test_a_bad_set_fails_alone(model: Embedder, bad: Any, says: str) -> None:
    reply = model.run(Request(items=[["a cat"], bad, ["a dog", "the sky"]], tower="mean"))
    assert list(reply.errors) == [1]
    assert says in reply.errors[1].message
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 2]], [mean(["a cat"]), mean(["a dog", "the sky"])])
    with pytest.raises(type(reply.errors[1]), match=f"^item 0: {says}"):
        model.embed([bad], tower="mean")


def test_pieces_of_many_items_share_batches(model: Embedder) -> None:
    before = model.stats()["batches"]
    model.embed([["a cat", "a dog"]] * 32, tower="mean")
    assert model.stats()["batches"] - before < 64


def test_more_pieces_than_the_queue_holds_go_part_after_part(path: Path) -> None:
    with Embedder.open(path, config=RuntimeConfig(**QUICK, max_queue_items=40, towers=("mean",))) as small:
        assert list(small.towers) == ["text", "mean"]
        np.testing.assert_array_equal(small.embed([["a cat"] * 15] * 9), [mean(["a cat"])] * 9)
        with pytest.raises(InvalidInput, match="50 items are more than ever fit into the queue"):
            small.embed([["a cat"] * 50])
        assert small.stats()["open_calls"] == 0
        np.testing.assert_array_equal(small.embed([["a dog"]], tower="mean"), [mean(["a dog"])])


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """An event without which no lane runs a batch."""
    opened, run = threading.Event(), OnnxRuntimeSession.start
    opened.set()

    def held(self: OnnxRuntimeSession, feeds: Any) -> Any:
        opened.wait(30)
        return run(self, feeds)

    monkeypatch.setattr(OnnxRuntimeSession, "start", held)
    return opened


def test_a_large_set_does_not_hold_up_a_small_item(path: Path, gate: threading.Event) -> None:
    with Embedder.open(path, config=RuntimeConfig(**QUICK, max_batch_size=8)) as model:
        order: list[str] = []
        half = MOST / 8 / 2  # of the batches that the large set takes at least
        gate.clear()
        large = model.submit(Request(items=[[words(3, seed=seed) for seed in range(MOST)]], tower="mean"))
        large.add_done_callback(lambda _: order.append("large"))
        small = model.submit(Request(items=["a cat"], tower="text"))
        small.add_done_callback(lambda _: order.append(f"small, in the first half: {model.stats()['batches'] < half}"))
        gate.set()
        np.testing.assert_array_equal(small.result(60).vectors, [vector(text="a cat")])
        assert large.result(60).errors == {}
    assert order == ["small, in the first half: True", "large"]


def test_pieces_are_dropped_when_nobody_waits(path: Path, gate: threading.Event) -> None:
    with Embedder.open(path, config=RuntimeConfig(**QUICK, max_batch_size=8)) as model:
        gate.clear()
        call = model.submit(Request(items=[["a cat"] * 400], tower="mean"))
        assert call.cancel()
        assert model.stats()["open_calls"] == 0
        with pytest.raises(DeadlineExceeded):
            model.embed([["a cat"] * 100], tower="mean", timeout=0.2)
        gate.set()
        assert model.drain(60)
        assert model.stats()["items"] <= 16


def test_draining_waits_for_what_is_made_of_the_pieces(path: Path, gate: threading.Event) -> None:
    with Embedder.open(path, config=RuntimeConfig(**QUICK)) as model:
        gate.clear()
        calls = [model.submit(Request(items=[["a cat", "a dog"]], tower="mean")) for _ in range(3)]
        assert not model.drain(0)
        gate.set()
        assert model.drain(60)
        for call in calls:
            np.testing.assert_array_equal(call.result(60).vectors, [mean(["a cat", "a dog"])])
        with pytest.raises(Unavailable):
            model.embed([["a cat"]], tower="mean")


def test_closing_tells_who_waits(path: Path, gate: threading.Event) -> None:
    model = Embedder.open(path, config=RuntimeConfig(**QUICK))
    gate.clear()
    call = model.submit(Request(items=[["a cat"] * 100], tower="mean"))
    closing = threading.Thread(target=model.close)
    closing.start()
    with pytest.raises(Unavailable, match="closed"):
        call.result(60)
    gate.set()
    closing.join(60)


def test_a_tower_is_found_by_its_set(model: Embedder) -> None:
    with pytest.raises(NotFound, match="these take such items: mean, brightest, shelf, pages"):
        model.embed([["a cat"]])
    np.testing.assert_array_equal(model.embed([{"texts": ["a cat"]}]), [mean(["a cat"])])


CHANGES: list[tuple[str, dict[str, Any], str]] = [
    ("mean", {"tower": "none"}, "the set of part mean.texts names 'none'"),
    ("mean", {"output": "none"}, "the set of part mean.texts names 'none'"),
    ("mean", {"tower": "mean"}, "the pieces of part mean.texts would be embedded by the tower itself"),
    ("mean", {"tower": "shelf"}, "the pieces of part mean.texts would be embedded by the tower itself"),
    ("mean", {"tower": "pages", "output": "pages"}, "part mean.texts needs one vector a piece, which output 'pages'"),
    ("mean", {"pool": None}, "part mean.texts is given all its pieces, so it must take a float32 tensor (pieces, 8)"),
    ("mean", {"prompt": "none"}, "the prompt of part mean.texts names 'none'"),
    ("pages", {"pool": "max"}, "part pages.pages pools its pieces, so it must take vectors of 8 numbers"),
    ("pages", {"max_pieces": 5000}, "part pages.pages lets in 5,000 pieces, but its tensor takes 4,000"),
]


@pytest.mark.parametrize(("tower", "change", "says"), CHANGES)
def test_a_set_that_cannot_be_is_refused(path: Path, tower: str, change: dict[str, Any], says: str) -> None:
    bundle = m.decode((path / m.FILE_NAME).read_bytes(), where="tiny")
    ((name, part),) = bundle.towers[tower].parts.items()
    part = msgspec.structs.replace(part, set=msgspec.structs.replace(part.set, **change))
    changed = msgspec.structs.replace(bundle.towers[tower], parts={name: part})
    bundle = msgspec.structs.replace(bundle, towers={**bundle.towers, tower: changed})
    with pytest.raises(BundleError, match=re.escape(says)):
        m.decode(m.encode(bundle), where="tiny")


def test_a_tower_of_several_sets_is_refused(path: Path) -> None:
    bundle = m.decode((path / m.FILE_NAME).read_bytes(), where="tiny")
    parts = {**bundle.towers["mean"].parts, **bundle.towers["pages"].parts}
    outputs = {"pages": MultiVectorOutput(tensor="pages", keep="pages_there", space="shared", dim=8, normalized=False)}
    tower = msgspec.structs.replace(
        bundle.towers["mean"], parts=parts, outputs={**bundle.towers["mean"].outputs, **outputs}
    )
    bundle = msgspec.structs.replace(bundle, towers={**bundle.towers, "mean": tower})
    with pytest.raises(BundleError, match="several parts that are sets, texts, pages; one is possible"):
        m.decode(m.encode(bundle), where="tiny")

"""Scores of pairs of a query and a document: exact, for any tower that scores pairs, in company and alone."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge import AsyncEmbedder, Embedder, EmbedgeError, InvalidInput, NotFound, Request, RuntimeConfig, Scores, Text
from embedge.content import Image
from embedge.scoring.pairs import pairs
from tests.tiny import WORDS
from tests.tiny_composed import cross, match, tiny_composed
from tests.tiny_kinds import COLOURS, tiny_kinds
from tests.tiny_towers import SIDE

QUICK = RuntimeConfig(warm_up_seconds=0, lanes=1)
PIXELS = np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3)).astype(np.uint8)
IMAGES = [Image(each) for each in PIXELS]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    with Embedder.open(tiny_composed(tmp_path_factory.mktemp("composed") / "1"), config=QUICK) as opened:
        yield opened


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    """A model whose one tower for pairs has several labels."""
    with Embedder.open(tiny_kinds(tmp_path_factory.mktemp("kinds") / "1"), config=QUICK) as opened:
        yield opened


@settings(max_examples=20, deadline=None)
@given(sides=st.lists(st.tuples(texts, texts), min_size=1, max_size=12))
def test_pairs_of_texts_are_scored_together(model: Embedder, sides: list[tuple[str, str]]) -> None:
    queries, documents = (list(side) for side in zip(*sides, strict=True))

    scores = model.score(queries, documents, tower="cross")

    assert isinstance(scores, np.ndarray)
    assert scores.dtype == np.float32
    assert scores.tolist() == [cross(query, document) for query, document in sides]


def test_two_parts_are_a_pair_and_the_first_is_the_query(model: Embedder) -> None:
    scores = model.score("a red cat", IMAGES, tower="match")
    np.testing.assert_array_equal(scores, [match("a red cat", each) for each in PIXELS])


def test_pairs_share_batches(model: Embedder) -> None:
    before = model.stats()["batches"]
    model.score("a cat", ["a dog"] * 16, tower="cross")
    assert model.stats()["batches"] - before < 16


def test_asyncio_gives_the_same(model: Embedder) -> None:
    scores = asyncio.run(AsyncEmbedder(model).score("a cat", ["a dog", "the sky"], tower="cross"))
    np.testing.assert_array_equal(scores, model.score("a cat", ["a dog", "the sky"], tower="cross"))


def test_a_tower_of_several_labels_gives_them(labelled: Embedder) -> None:
    scores = labelled.score("a cat", ["a dog", "the sky"], output="scores")
    assert isinstance(scores, Scores)
    assert scores.labels == COLOURS
    np.testing.assert_array_equal(scores.values, labelled.score("a cat", ["a dog", "the sky"]).values)


def test_a_query_brings_its_instruction(labelled: Embedder) -> None:
    query = Text("a cat", instruction="the small")
    scores = labelled.score(query, ["a dog", Text("a dog")])
    np.testing.assert_array_equal(scores.values[0], labelled.score("the small : a cat", ["a dog"]).values[0])
    np.testing.assert_array_equal(scores.values[0], scores.values[1])


def test_no_documents_have_no_scores(model: Embedder) -> None:
    assert model.score("a cat", [], tower="cross").shape == (0,)


@pytest.mark.parametrize(
    ("query", "document", "says"),
    [
        (None, "a dog", "the pair has no query"),
        ("a cat", None, "the pair has no document"),
        ("", "a dog", "the text is empty"),
        ("a cat", "  ", "the text is empty"),
        ("a cat", 5, "a text is needed"),
        ("a cat", Text("a dog", instruction="find"), "a text is needed"),
    ],
)
def test_a_bad_pair_fails_alone(model: Embedder, query: Any, document: Any, says: str) -> None:
    asked = Request(items=pairs(["a cat", query], ["the sky", document]), tower="cross")
    reply = model.run(model.to_score(asked))
    assert list(reply.errors) == [1]
    assert says in reply.errors[1].message
    assert isinstance(reply.errors[1], InvalidInput)
    assert reply.outputs["score"].values[0] == cross("a cat", "the sky")
    with pytest.raises(InvalidInput, match=f"^item 1: {says}"):
        model.score(["a cat", query], ["the sky", document], tower="cross")


def test_items_that_are_no_pairs_fail_alone(model: Embedder) -> None:
    items: list[Any] = ["a cat", {"query": "a cat", "text": "a dog"}, {"query": "a cat", "document": "a dog"}]
    reply = model.run(model.to_score(Request(items=items, tower="cross")))
    assert sorted(reply.errors) == [0, 1]


@pytest.mark.parametrize(
    ("queries", "documents", "options", "error", "says"),
    [
        ("a cat", "a dog", {}, InvalidInput, "documents must be a list"),
        (["a cat"], ["a dog", "the sky"], {}, InvalidInput, "1 queries and 2 documents make no pairs"),
        ("a cat", ["a dog"], {"tower": None}, NotFound, "these score pairs: match, cross"),
        ("a cat", ["a dog"], {"tower": "crosss"}, NotFound, "tower 'crosss' is unknown"),
        ("a cat", ["a dog"], {"tower": "text"}, InvalidInput, "tower 'text' scores no pairs"),
        ("a cat", ["a dog"], {"output": "dense"}, NotFound, "output 'dense' is unknown"),
    ],
)
def test_what_is_no_request_for_pairs_is_refused(
    model: Embedder, queries: Any, documents: Any, options: dict[str, Any], error: type[EmbedgeError], says: str
) -> None:
    with pytest.raises(error, match=says):
        model.score(queries, documents, **{"tower": "cross", **options})


def test_an_output_that_is_no_score_is_refused(labelled: Embedder) -> None:
    with pytest.raises(InvalidInput, match="output 'dense' is no score; tower 'text' scores pairs by: scores"):
        labelled.score("a cat", ["a dog"], output="dense")


def test_a_model_without_a_tower_for_pairs_says_so(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tiny_composed(tmp_path_factory.mktemp("few") / "1")
    with (
        Embedder.open(path, config=RuntimeConfig(warm_up_seconds=0, lanes=1, towers=("text",))) as few,
        pytest.raises(NotFound, match="no tower scores pairs of a query and a document; there are: text"),
    ):
        few.score("a cat", ["a dog"])

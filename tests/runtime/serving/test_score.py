"""Scores of pairs over the wire: those of the model in process; and candidates ranked in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from embedge import (
    AsyncClient,
    AsyncEmbedder,
    Client,
    Embedder,
    EmbedgeError,
    Image,
    InvalidInput,
    Request,
    RuntimeConfig,
)
from embedge.similarity import similarity
from embedge.v1 import embedge_pb2 as pb
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from tests.tiny import WORDS, words
from tests.tiny_composed import cross
from tests.tiny_towers import SIDE

DOCUMENTS = [words(1 + seed % 7, seed=seed) for seed in range(40)]
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.mark.parametrize("queries", ["a red cat", [words(4, seed=seed) for seed in range(100, 140)]])
async def test_scores_are_those_of_the_model_in_process(
    keeper: Client, composed: Embedder, zoo_address: str, queries: Any
) -> None:
    want = composed.score(queries, DOCUMENTS, tower="cross")
    np.testing.assert_array_equal(keeper.score("composed", queries, DOCUMENTS, tower="cross"), want)
    async with AsyncClient(zoo_address) as client:
        np.testing.assert_array_equal(await client.score("composed", queries, DOCUMENTS, tower="cross"), want)


def test_any_content_is_a_side(keeper: Client, composed: Embedder) -> None:
    images = [Image(each) for each in PIXELS]
    np.testing.assert_array_equal(
        keeper.score("composed", "a cat", images, tower="match"), composed.score("a cat", images, tower="match")
    )
    labelled = keeper.score("kinds", "a cat", ["a dog"])
    assert labelled.labels == ("red", "green", "blue")


def test_many_pairs_go_in_several_calls(keeper: Client) -> None:
    scores = keeper.score("composed", "a cat", DOCUMENTS * 30, tower="cross")
    assert scores.shape == (1200,)
    assert scores[-1] == cross("a cat", DOCUMENTS[-1])
    assert keeper.score("composed", "a cat", [], tower="cross").shape == (0,)


@pytest.mark.parametrize(
    ("queries", "documents", "options"),
    [
        ("a cat", ["a dog", None], {}),
        (None, ["a dog"], {}),
        ("", ["a dog", "the sky"], {}),
        (["a cat", ""], ["a dog", "the sky"], {}),
        (["a cat"], ["a dog", "the sky"], {}),
        ("a cat", "a dog", {}),
        ("a cat", ["a dog"], {"tower": "text"}),
        ("a cat", ["a dog"], {"tower": None}),
        ("a cat", ["a dog"], {"output": "dense"}),
    ],
)
def test_what_is_wrong_is_said_in_the_same_words(
    keeper: Client, composed: Embedder, queries: Any, documents: Any, options: dict[str, Any]
) -> None:
    options = {"tower": "cross", **options}
    with pytest.raises(EmbedgeError) as mine:
        keeper.score("composed", queries, documents, **options)
    with pytest.raises(EmbedgeError) as theirs:
        composed.score(queries, documents, **options)
    assert (type(mine.value), str(mine.value)) == (type(theirs.value), str(theirs.value))


def test_a_damaged_query_fails_its_pairs(zoo_address: str) -> None:
    request = pb.EmbedRequest(model="composed", tower="cross")
    request.items.add().parts["document"].text = b"a dog"
    both = request.items.add()
    both.parts["query"].text, both.parts["document"].text = b"a cat", b"a dog"
    with grpc.insecure_channel(zoo_address) as channel:
        reply = EmbedgeStub(channel).Score(pb.ScoreRequest(request=request, query=pb.Part()))
    assert [(error.index, error.message) for error in reply.errors] == [
        (0, "the query: the part is empty; send what it holds"),
        (1, "the query: the part is empty; send what it holds"),
    ]


def test_texts_are_no_pairs(zoo_address: str) -> None:
    request = pb.EmbedRequest(model="composed", tower="cross", texts=[b"a cat", b"a dog"])
    with grpc.insecure_channel(zoo_address) as channel:
        reply = EmbedgeStub(channel).Score(pb.ScoreRequest(request=request, query=pb.Part(text=b"a cat")))
    assert [error.index for error in reply.errors] == [0, 1]
    assert {error.message for error in reply.errors} == {"a pair has the parts 'query' and 'document', and no other"}


def ranking(composed: Embedder, query: str, keep: int, top: int) -> tuple[list[int], list[float]]:
    """Return what `rerank` is documented to do, from its definition."""
    both = [composed.run(Request(items=items, tower="text")).outputs["dense"] for items in ([query], DOCUMENTS)]
    near = similarity(*both)[0].tolist()
    kept = sorted(range(len(near)), key=lambda place: (-near[place], place))[:keep]
    scores = {place: cross(query, DOCUMENTS[place]) for place in kept}
    best = sorted(kept, key=lambda place: (-scores[place], place))[:top]
    return best, [scores[place] for place in best]


@pytest.mark.parametrize("keep", [1, 7, 40, 100])
async def test_candidates_are_found_and_then_ranked(
    keeper: Client, composed: Embedder, zoo_address: str, keep: int
) -> None:
    found = keeper.rerank(
        "composed", "a red cat", DOCUMENTS, top=5, embed_model="words", keep=keep, tower="cross", timeout=60
    )
    want, scores = ranking(composed, "a red cat", keep, 5)
    assert (found.indices.tolist(), found.scores.tolist()) == (want, scores)
    async with AsyncClient(zoo_address) as client:
        twin = await client.rerank(
            "composed", "a red cat", DOCUMENTS, top=5, embed_model="words", keep=keep, tower="cross"
        )
    np.testing.assert_array_equal(twin.indices, found.indices)


def test_without_an_embedding_model_all_are_ranked(keeper: Client) -> None:
    same = ["a dog", "the sky", "a dog"]
    found = keeper.rerank("composed", "a cat", same, top=None, tower="cross")
    scores = [cross("a cat", each) for each in same]
    assert found.indices.tolist() == sorted(range(3), key=lambda place: (-scores[place], place))
    assert keeper.rerank("composed", "a cat", [], tower="cross").indices.shape == (0,)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top": 0}, "top 0 is not possible"),
        ({"keep": "many"}, "keep 'many' is not possible"),
        ({"documents": "a dog"}, "documents must be a list"),
        ({"model": "kinds", "tower": "text"}, "documents are ranked by one score, and this tower gives 3"),
        ({"query": ""}, "^the query: the text is empty"),
        ({"documents": ["a dog", "", "the sky"]}, "^item 1: the text is empty"),
    ],
)
def test_a_ranking_that_is_not_possible_is_refused(keeper: Client, changes: dict[str, Any], says: str) -> None:
    wanted = {"model": "composed", "query": "a cat", "documents": list(WORDS), "tower": "cross"}
    with pytest.raises(InvalidInput, match=says):
        keeper.rerank(**{**wanted, "embed_model": "words", "keep": 2, **changes})


def test_a_bad_candidate_keeps_its_place(keeper: Client) -> None:
    long = " ".join(["cat"] * 31)  # fits alone, and not beside a query
    candidates = ["the sky", "a dog", long]
    with pytest.raises(InvalidInput, match=r"^item 2: "):
        keeper.rerank("composed", "cat", candidates, embed_model="words", keep=1, tower="cross", top=1)


RANKINGS: list[tuple[str, Any, list[Any], dict[str, Any]]] = [
    ("composed", "a red cat", DOCUMENTS, {"tower": "cross"}),
    ("composed", "a red cat", DOCUMENTS, {"tower": "cross", "top": 3}),
    ("composed", "a red cat", DOCUMENTS, {"tower": "text", "top": 7}),
    ("words", "a red cat", DOCUMENTS, {}),
    ("kinds", "a red cat", DOCUMENTS, {"output": "tokens"}),
    ("kinds", "a red cat", DOCUMENTS, {"output": "sparse", "top": 5}),
    ("towers", "a red cat", [Image(each) for each in PIXELS], {}),
    ("words", "a red cat", [], {}),
]


@pytest.mark.parametrize(("model", "query", "documents", "options"), RANKINGS)
async def test_a_ranking_is_the_same_over_the_wire(
    zoo: Path,
    keeper: Client,
    zoo_address: str,
    model: str,
    query: Any,
    documents: list[Any],
    options: dict[str, Any],
) -> None:
    with Embedder.open(zoo / model, config=RuntimeConfig(warm_up_seconds=0, lanes=1)) as embedder:
        want = embedder.rerank(query, documents, **options)
        twin = await AsyncEmbedder(embedder).rerank(query, documents, **options)
    found = keeper.rerank(model, query, documents, **options)
    async with AsyncClient(zoo_address) as client:
        other = await client.rerank(model, query, documents, **options)

    assert len(want.indices) == min(len(documents), options.get("top", len(documents)))
    assert want.scores.dtype == np.float32
    for each in (twin, found, other):
        np.testing.assert_array_equal(each.indices, want.indices)
        np.testing.assert_array_equal(each.scores, want.scores)

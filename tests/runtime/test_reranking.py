"""Documents ranked by a query in process: by a cross-encoder where there is one, by similarity otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from embedge import Embedder, InvalidInput, NotFound, RuntimeConfig
from embedge.similarity import cosine, max_sim
from tests.tiny import words
from tests.tiny_composed import cross, tiny_composed, tiny_words
from tests.tiny_kinds import tiny_kinds

QUICK = RuntimeConfig(warm_up_seconds=0, lanes=1)
DOCUMENTS = [words(1 + seed % 7, seed=seed) for seed in range(30)]


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    with Embedder.open(tiny_composed(tmp_path_factory.mktemp("composed") / "1"), config=QUICK) as opened:
        yield opened


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    with Embedder.open(tiny_kinds(tmp_path_factory.mktemp("kinds") / "1"), config=QUICK) as opened:
        yield opened


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    with Embedder.open(tiny_words(tmp_path_factory.mktemp("words") / "1"), config=QUICK) as opened:
        yield opened


def best_first(scores: Any) -> list[int]:
    return sorted(range(len(scores)), key=lambda place: (-scores[place], place))


def test_a_cross_encoder_scores_the_pairs(composed: Embedder) -> None:
    found = composed.rerank("a red cat", DOCUMENTS, tower="cross", top=4)

    scores = [cross("a red cat", each) for each in DOCUMENTS]
    assert found.indices.tolist() == best_first(scores)[:4]
    assert found.scores.tolist() == [scores[place] for place in found.indices]


def test_embeddings_are_compared_where_no_tower_scores_pairs(plain: Embedder) -> None:
    found = plain.rerank("a red cat", DOCUMENTS)

    scores = cosine(plain.embed(["a red cat"]), plain.embed(DOCUMENTS))[0]
    assert found.indices.tolist() == best_first(scores.tolist())
    np.testing.assert_array_equal(found.scores, scores[found.indices])


def test_an_output_of_several_vectors_is_compared_by_max_sim(kinds: Embedder) -> None:
    found = kinds.rerank("a red cat", DOCUMENTS, output="tokens")

    scores = max_sim(kinds.embed(["a red cat"], output="tokens"), kinds.embed(DOCUMENTS, output="tokens"))[0]
    assert found.indices.tolist() == best_first(scores.tolist())


def test_each_side_has_its_prompt(plain: Embedder) -> None:
    found = plain.rerank("a cat", DOCUMENTS, prompts=("query", "passage"))

    scores = cosine(plain.embed(["a cat"], prompt="query"), plain.embed(DOCUMENTS, prompt="passage"))[0]
    np.testing.assert_array_equal(found.scores, scores[found.indices])


def test_of_equal_documents_the_earlier_comes_first(plain: Embedder) -> None:
    assert plain.rerank("a cat", ["a dog", "a cat", "a dog", "a cat"]).indices.tolist() == [1, 3, 0, 2]


def test_no_documents_are_an_empty_ranking(composed: Embedder) -> None:
    found = composed.rerank("a cat", [])
    assert (found.indices.shape, found.scores.shape) == ((0,), (0,))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top": 0}, "top 0 is not possible"),
        ({"top": True}, "top True is not possible"),
        ({"documents": "a dog"}, "documents must be a list"),
        ({"query": ""}, "^the query: the text is empty"),
        ({"documents": ["a dog", ""]}, "^item 1: the text is empty"),
        ({"prompt": "query"}, r"name the prompt of each, prompts="),
    ],
)
def test_a_ranking_that_is_not_possible_is_refused(plain: Embedder, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        plain.rerank(**{"query": "a cat", "documents": DOCUMENTS, **changes})


def test_one_query_at_a_time(composed: Embedder) -> None:
    with pytest.raises(InvalidInput, match="call rerank once for each"):
        composed.rerank(["a cat", "a dog"], ["the sky", "a dog"], tower="cross")


def test_a_tower_must_be_named_where_several_score_pairs(composed: Embedder) -> None:
    with pytest.raises(NotFound, match="these score pairs: match, cross"):
        composed.rerank("a cat", DOCUMENTS)

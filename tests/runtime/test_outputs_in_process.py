"""Every kind of output through a whole embedder, against the weights of a model whose numbers are exact."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import (
    Codes,
    Embedder,
    Gaussian,
    InvalidInput,
    MultiVectors,
    Request,
    RuntimeConfig,
    Scores,
    Sparse,
    Vectors,
)
from embedge.calls.task import Task
from embedge.similarity import max_sim
from tests.tiny import VOCABULARY, tiny_tokenizer, words
from tests.tiny_kinds import COLOURS, DIM, KINDS, tiny_kinds

TEXTS = ["a red cat", "the small dog sleeps", "a bird", words(25, seed=1), words(9, seed=2)]
TABLE = np.random.default_rng(0).integers(-9, 10, (len(VOCABULARY), DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    path = tiny_kinds(tmp_path_factory.mktemp("outputs") / "kinds")
    with Embedder.open(path, config=RuntimeConfig(max_queue_items=8)) as opened:
        yield opened


def tokens(text: str) -> NDArray[np.float32]:
    return TABLE[tiny_tokenizer().encode(text).ids]


def rows(embedder: Embedder, text: str) -> dict[str, object]:
    """Return an item's row of every output, asked for alone."""
    reply = embedder.run(Request(items=[text], tower="text", outputs=tuple(KINDS)))
    return {name: result[0] for name, result in reply.outputs.items()}


def test_all_kinds_come_from_one_pass(embedder: Embedder) -> None:
    before = embedder.stats()["batches"]
    reply = embedder.run(Request(items=TEXTS[:1], tower="text", outputs=tuple(KINDS)))
    assert embedder.stats()["batches"] == before + 1

    found, vectors = reply.outputs, tokens(TEXTS[0])
    dense = vectors.sum(axis=0)
    assert list(found) == list(KINDS)
    assert isinstance(found["dense"], Vectors)
    np.testing.assert_array_equal(found["dense"][0], dense)
    assert isinstance(found["tokens"], MultiVectors)
    np.testing.assert_array_equal(found["tokens"][0], vectors)
    assert isinstance(found["gaussian"], Gaussian)
    np.testing.assert_array_equal(found["gaussian"][0], [dense, -dense])
    assert isinstance(found["bits"], Codes)
    np.testing.assert_array_equal(found["bits"][0], np.packbits(dense > 0))
    assert isinstance(found["codes"], Codes)
    np.testing.assert_array_equal(found["codes"][0], dense.astype(np.int32))
    assert isinstance(found["token_codes"], Codes)
    np.testing.assert_array_equal(found["token_codes"][0], vectors.astype(np.int32))
    assert isinstance(found["scores"], Scores)
    assert [label for label, _ in found["scores"][0]] == list(COLOURS)
    assert isinstance(found["sparse"], Sparse)
    indices, weights = found["sparse"][0]
    order = sorted(range(DIM), key=lambda place: (-dense[place], place))[:5]
    np.testing.assert_array_equal(indices, sorted(place for place in order if dense[place] > 0))
    np.testing.assert_array_equal(weights, dense[indices])


def test_texts_of_all_lengths_get_what_each_gets_alone(embedder: Embedder) -> None:
    # More than `max_queue_items` lets in at once: the request goes part after part.
    texts = [*TEXTS, *(words(count, seed=count) for count in range(1, 20))]

    reply = embedder.run(Request(items=texts, tower="text", outputs=tuple(KINDS)))

    for index, text in enumerate(texts):
        for name, alone in rows(embedder, text).items():
            np.testing.assert_array_equal(reply.outputs[name][index], alone, err_msg=f"{name} of {text!r}")


def test_items_that_failed_are_zero_or_empty(embedder: Embedder) -> None:
    reply = embedder.run(Request(items=["a cat", "", "a dog"], tower="text", outputs=tuple(KINDS)))

    assert set(reply.errors) == {1}
    for name, result in reply.outputs.items():
        assert len(result) == 3
        if isinstance(result, Scores):
            assert not result.values[1].any()
        else:
            assert not np.any(result[1])
        np.testing.assert_array_equal(result[2], rows(embedder, "a dog")[name])  # type: ignore[arg-type]
    assert reply.outputs["tokens"][1].shape == (0, DIM)  # type: ignore[union-attr]


def test_embed_gives_an_array_of_dense_vectors_and_the_result_of_another_kind(embedder: Embedder) -> None:
    dense = embedder.embed(TEXTS, tower="text")
    many = embedder.embed(TEXTS, tower="text", output="tokens")

    assert isinstance(dense, np.ndarray)
    assert isinstance(many, MultiVectors)
    np.testing.assert_array_equal(dense, [many[row].sum(axis=0) for row in range(len(TEXTS))])
    reply = embedder.run(Request(items=TEXTS, tower="text", outputs=("tokens", "dense")))
    with pytest.raises(InvalidInput, match=r"output 'tokens' is multi_vector, .* see \.outputs\['tokens'\]"):
        _ = reply.vectors


def test_a_budget_of_vectors_an_item(embedder: Embedder) -> None:
    many = embedder.embed(TEXTS, tower="text", output="tokens", pool=4)

    for row, text in enumerate(TEXTS):
        vectors = tokens(text)
        places = np.arange(len(vectors)) * min(4, len(vectors)) // len(vectors)
        means = [vectors[places == group].mean(axis=0) for group in range(min(4, len(vectors)))]
        np.testing.assert_allclose(many[row], means, rtol=1e-6)
    whole = embedder.embed(TEXTS, tower="text", output="tokens")
    assert max_sim(whole, many).shape == (len(TEXTS), len(TEXTS))


@pytest.mark.parametrize(
    ("outputs", "options", "message"),
    [
        (("dense", "scores"), {"dim": 4}, "dim 4 is not possible: output 'scores' has a number for each label"),
        (("gaussian",), {"dtype": "ubinary"}, "dtype 'ubinary' is not possible: output 'gaussian'"),
        (("tokens", "dense"), {"pool": 4}, "pool is not possible: output 'dense' has not many vectors an item"),
        (("tokens",), {"pool": -1}, "pool -1 is not possible"),
    ],
)
def test_what_one_of_the_outputs_cannot_be_is_refused(
    embedder: Embedder, outputs: tuple[str, ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        embedder.run(Request(items=TEXTS, tower="text", outputs=outputs, **options))  # type: ignore[arg-type]


def test_outputs_that_nobody_asked_for_are_not_collected(embedder: Embedder) -> None:
    request = Request(items=TEXTS, tower="text")
    assert Task(embedder.manifest, request, "text", {"dense": DIM}).tensors == {"sum"}
    assert Task(embedder.manifest, request, "text", {"tokens": DIM, "bits": 8}).tensors == {"embedded", "keep", "sum"}

"""The in-process API on a real (tiny) ONNX model: what is asked for comes out, however it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import Embedder, InvalidInput, NotFound, Request, RuntimeConfig
from tests.runtime.models import QUICK, model
from tests.tiny import PROMPTS, tiny_bundle, words

_ = model


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

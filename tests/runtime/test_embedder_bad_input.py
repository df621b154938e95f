"""Bad input in process: of the request as a whole, and of one item of several."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedge import DeadlineExceeded, Embedder, EmbedgeError, InvalidInput, NotFound, Request
from tests.runtime.models import LONG, model
from tests.tiny import words

_ = model


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


def test_items_that_are_none_are_refused(model: Embedder) -> None:
    with pytest.raises(InvalidInput, match="list of items"):
        model.embed(7)  # type: ignore[arg-type]

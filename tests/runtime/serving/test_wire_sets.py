"""Sets over the wire: what the model gives in process, for sets of any pieces, and the same errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from embedge import Client, Embedder, Image, Request
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.messages import several
from embedge.wire.parts import fill_item, item_from_proto
from tests.tiny_composed import MOST
from tests.tiny_towers import SIDE

PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("tower", "items"),
    [
        ("mean", [["a cat", "a dog"], ["the sky"]]),
        ("mean", [{"texts": ["a cat"]}, [{"text": "a dog"}, "the sky"]]),
        ("brightest", [[Image(each) for each in PIXELS], list(PIXELS[:2])]),
        ("shelf", [[["a cat", "a dog"], ["the sky"]]]),
        ("titled", [{"texts": ["a cat", "a dog"], "title": "a tree"}]),
        ("mean", [["a cat"], [], ["a dog", " "], ["a cat", "\udc80"], "a cat"]),
        ("mean", [["a cat"] * (MOST + 1), ["a dog"]]),
    ],
)
def test_sets_are_what_they_are_in_process(keeper: Client, composed: Embedder, tower: str, items: list[Any]) -> None:
    mine = keeper.run("composed", Request(items=items, tower=tower))
    theirs = composed.run(Request(items=items, tower=tower))
    np.testing.assert_array_equal(mine.outputs["dense"].values, theirs.outputs["dense"].values)
    assert {index: str(error) for index, error in mine.errors.items()} == {
        index: str(error) for index, error in theirs.errors.items()
    }


def test_pieces_come_back(keeper: Client, composed: Embedder) -> None:
    request = Request(items=[["a cat", "a dog"], ["the sky"]], tower="pages", outputs=("pages",))
    mine, theirs = (reply.outputs["pages"] for reply in (keeper.run("composed", request), composed.run(request)))
    np.testing.assert_array_equal(mine.values, theirs.values)
    assert mine.offsets.tolist() == theirs.offsets.tolist() == [0, 2, 3]


def test_a_model_says_what_its_sets_are(keeper: Client) -> None:
    towers = {tower.name: tower for tower in keeper.model("composed").towers}
    [texts] = towers["mean"].parts
    assert texts.set == pb.SetInfo(tower="text", output="dense", pool="mean", max_pieces=MOST)
    assert not towers["text"].parts[0].HasField("set")


@pytest.mark.parametrize("item", [[1, 2.5], [[1, 2], [3, 4]], (np.float32(1), 2)])
def test_a_list_of_numbers_stays_an_array(item: Any) -> None:
    message = pb.Item()
    fill_item(message, item)
    np.testing.assert_array_equal(item_from_proto(message), np.asarray(item))


def test_many_sets_go_in_messages_that_a_queue_takes(keeper: Client) -> None:
    sent = list(several(pb.EmbedRequest(model="composed"), [["a cat"] * 200] * 7 + [["a cat"] * 900], 1 << 20))
    assert [len(message.items) for message in sent] == [2, 2, 2, 1, 1]
    vectors = keeper.embed("composed", [["a cat"] * 200] * 7, tower="mean")
    np.testing.assert_array_equal(vectors, [vectors[0]] * 7)

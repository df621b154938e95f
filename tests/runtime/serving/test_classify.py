"""Classification over the wire: the scores that the model gives in process."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from embedge import AsyncClient, Client, Embedder, EmbedgeError, InvalidInput, NotFound, Scores
from embedge.bundle.manifest import LabelSet
from embedge.content import Vector
from embedge.v1 import embedge_pb2 as pb
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from tests.tiny_kinds import COLOURS

TEXTS = ["a red cat", "the dog runs", "a blue tree"]
OWN = LabelSet(tower="text", output="dense", labels=("cat", "dog"), templates=("a {}", "the {}"), scores="sigmoid")
ANIMALS = ["cat", "dog", "bird", "fish"]


def equal(mine: Scores, theirs: Scores) -> None:
    assert mine.labels == theirs.labels
    np.testing.assert_array_equal(mine.values, theirs.values, strict=True)
    assert (mine.indices is None) == (theirs.indices is None)
    if mine.indices is not None:
        np.testing.assert_array_equal(mine.indices, theirs.indices, strict=True)


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ("colours", {}),
        ("colours", {"top": 2, "prompt": "query"}),
        (ANIMALS, {}),
        (ANIMALS, {"templates": ("a {}", "the small {}"), "top": 9}),
        (OWN, {"top": 1}),
    ],
)
def test_scores_are_those_of_the_model_in_process(
    keeper: Client, kinds: Embedder, labels: Any, options: dict[str, Any]
) -> None:
    options = {"tower": "text", **options}
    equal(keeper.classify("kinds", TEXTS, labels, **options), kinds.classify(TEXTS, labels, **options))


def test_items_of_another_tower_of_the_same_space(keeper: Client, kinds: Embedder) -> None:
    items = [Vector(np.arange(4, dtype=np.float32)), Vector(np.ones(4, np.float32))]
    equal(keeper.classify("kinds", items, "colours"), kinds.classify(items, "colours"))
    assert keeper.classify("kinds", items[:1], "colours", top=1)[0][0][0] in COLOURS
    empty = keeper.classify("kinds", [], "colours", tower="text", top=2)
    equal(empty, kinds.classify([], "colours", tower="text", top=2))


async def test_many_items_go_in_several_calls(zoo_address: str, keeper: Client) -> None:
    few = keeper.classify("kinds", TEXTS, "colours", tower="text", top=1)
    async with AsyncClient(zoo_address) as client:
        many = await client.classify("kinds", TEXTS * 400, "colours", tower="text", top=1)
    assert len(many) == 1200
    np.testing.assert_array_equal(many.indices[-3:], few.indices, strict=True)
    np.testing.assert_allclose(many.values[-3:], few.values, rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        ("colors", {}),
        ([], {}),
        (["cat", " "], {"templates": ["{}"]}),
        (ANIMALS, {"templates": ["a cat"]}),
        ("colours", {"top": 0}),
        ("colours", {"tower": "txt"}),
        (LabelSet(tower="text", output="tokens", labels=("a",)), {}),
        (LabelSet(tower="image", output="dense", labels=("a",)), {}),
    ],
)
def test_what_is_wrong_is_said_in_the_same_words(
    keeper: Client, kinds: Embedder, labels: Any, options: dict[str, Any]
) -> None:
    options = {"tower": "text", **options}
    with pytest.raises(EmbedgeError) as mine:
        keeper.classify("kinds", TEXTS, labels, **options)
    with pytest.raises(EmbedgeError) as theirs:
        kinds.classify(TEXTS, labels, **options)
    assert (type(mine.value), str(mine.value)) == (type(theirs.value), str(theirs.value))


def test_a_bad_item_is_named(keeper: Client) -> None:
    with pytest.raises(InvalidInput, match=r"^item 1: the text is empty"):
        keeper.classify("kinds", ["a cat", ""], "colours", tower="text")
    with pytest.raises(NotFound, match="model 'kindz' is unknown"):
        keeper.classify("kindz", ["a cat"], "colours")


@pytest.mark.parametrize(
    ("labels", "says"), [(5, "labels are the name"), ([5], "a label must be a text"), (["\udc80"], "lone surrogates")]
)
def test_labels_of_a_wrong_kind_are_refused_by_the_client(keeper: Client, labels: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        keeper.classify("kinds", TEXTS, labels)


def test_scores_that_no_reply_can_hold_are_refused_before_anything_is_embedded(zoo_address: str) -> None:
    texts, labels = [b"a cat"] * 30_000, [f"cat {number}" for number in range(600)]
    asked = pb.ClassifyRequest(request=pb.EmbedRequest(model="kinds", tower="text", texts=texts))
    asked.labels.labels.extend(labels)
    with grpc.insecure_channel(zoo_address) as channel:
        stub = EmbedgeStub(channel)
        before = stub.GetStats(pb.GetStatsRequest(name="kinds")).figures["items"]
        with pytest.raises(grpc.RpcError, match="the reply has 72,000,000 bytes, the server's limit is 67,108,864"):
            stub.Classify(asked)
        asked.top = 300
        with pytest.raises(grpc.RpcError, match="the reply has 72,000,000 bytes"):
            stub.Classify(asked)
        after = stub.GetStats(pb.GetStatsRequest(name="kinds")).figures["items"]
    assert after - before <= len(labels)


def test_a_request_without_labels_is_refused(zoo_address: str) -> None:
    request = pb.EmbedRequest(model="kinds", tower="text", texts=[b"a cat", b""])
    with grpc.insecure_channel(zoo_address) as channel:
        stub = EmbedgeStub(channel)
        with pytest.raises(grpc.RpcError, match="the request has no labels"):
            stub.Classify(pb.ClassifyRequest(request=request))
        reply = stub.Classify(pb.ClassifyRequest(request=request, label_set="colours", top=1))
    assert [error.index for error in reply.errors] == [1]
    [output] = reply.outputs
    assert (output.name, output.kind, list(output.labels)) == ("scores", pb.KIND_SCORES, list(COLOURS))
    assert list(output.values.shape) == [2, 1]

"""What comes over the wire is what the model gives in process: bit for bit, errors and all."""

from __future__ import annotations

from dataclasses import fields

import grpc
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge import Client, Embedder, InvalidInput, NotFound, Reply, Request
from embedge.v1 import embedge_pb2 as pb
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from embedge.wire.convert import fill_reply, reply_from_proto, request_from_proto, request_to_proto
from tests.tiny import words

TEXTS = ["a red cat", "The Dog RUNS.", "zebra", "🌲🐟", "naïve – ﬂuß", words(25), "a\x00b", "\N{BOM}tree"]

text = st.text(max_size=40)
requests = st.builds(
    Request,
    items=st.lists(text, max_size=8) | st.lists(st.fixed_dictionaries({"text": text}), max_size=8),
    tower=st.sampled_from([None, "text"]),
    outputs=st.sampled_from([(), ("dense",)]),
    dim=st.sampled_from([None, 1, 8, 16]),
    dtype=st.sampled_from(["float32", "float16", "int8"]),
    prompt=st.sampled_from([None, "query"]),
    truncate=st.booleans(),
    priority=st.sampled_from(["interactive", "bulk"]),
)


def same(wire: Reply, local: Reply) -> None:
    """Assert that two replies agree in all but their timings."""
    assert (wire.model, wire.version, wire.tower) == (local.model, local.version, local.tower)
    assert list(wire.outputs) == list(local.outputs)
    for name, result in local.outputs.items():
        got = wire.outputs[name]
        assert type(got) is type(result)
        for field in fields(result):
            mine, theirs = getattr(got, field.name), getattr(result, field.name)
            if isinstance(theirs, np.ndarray):
                np.testing.assert_array_equal(mine, theirs, strict=True)
            else:
                assert mine == theirs, field.name
    np.testing.assert_array_equal(wire.tokens, local.tokens, strict=True)
    assert [(i, type(e), str(e), e.index) for i, e in wire.errors.items()] == [
        (i, type(e), str(e), e.index) for i, e in local.errors.items()
    ]


@pytest.mark.parametrize("dim", [None, 8, 3])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "ubinary"])
def test_wire_is_in_process_bit_for_bit(client: Client, tiny: Embedder, dtype: str, dim: int | None) -> None:
    if dtype == "ubinary" and dim == 3:
        dim = 16
    request = Request(items=TEXTS, dim=dim, dtype=dtype, prompt="query")
    same(client.run("tiny", request), tiny.run(request))


@settings(deadline=None, max_examples=60)
@given(request=requests)
def test_any_request_gives_the_same_reply_or_error(client: Client, tiny: Embedder, request: Request) -> None:
    same(client.run("tiny", request), tiny.run(request))


@given(request=requests)
def test_a_request_survives_its_message(request: Request) -> None:
    assert request_from_proto(request_to_proto("tiny", request), deadline=None) == request


@pytest.mark.parametrize("message", [pb.EmbedRequest(items=[pb.Item()] * 3), pb.EmbedRequest(texts=[b"\xff"] * 3)])
def test_items_are_counted_before_they_are_made(message: pb.EmbedRequest) -> None:
    with pytest.raises(InvalidInput, match=r"3 items are more than ever fit into the queue, 2 \(max_queue_items\)"):
        request_from_proto(message, deadline=None, most=2)


@settings(deadline=None)
@given(request=requests)
def test_a_reply_survives_its_message(tiny: Embedder, request: Request) -> None:
    reply = tiny.run(request)
    message = pb.EmbedReply()
    fill_reply(message, reply)
    same(reply_from_proto(pb.EmbedReply.FromString(message.SerializeToString())), reply)


def test_the_reply_says_what_was_spent_and_in_which_space(client: Client, tiny: Embedder) -> None:
    reply = client.run("tiny", Request(items=["a cat"]))
    assert reply.outputs["dense"].space in tiny.manifest.spaces
    assert reply.timings.compute > 0
    assert reply.tokens.tolist() == [4]


def test_vectors_travel_packed_and_little_endian(address: str, tiny: Embedder) -> None:
    with grpc.insecure_channel(address) as channel:
        reply = EmbedgeStub(channel).Embed(pb.EmbedRequest(model="tiny", texts=[b"a cat", b"a dog"]))
    [output] = reply.outputs
    assert (output.name, output.kind, list(output.values.shape)) == ("dense", pb.KIND_DENSE, [2, 16])
    assert output.values.dtype == pb.DTYPE_FLOAT32
    assert output.values.data == tiny.embed(["a cat", "a dog"]).astype("<f4").tobytes()


def test_ten_thousand_items_in_one_call(client: Client, tiny: Embedder) -> None:
    items = [words(1 + i % 7, seed=i % 50) for i in range(10_000)]
    vectors = client.embed("tiny", items)
    assert vectors.shape == (10_000, 16)
    few = slice(0, 10_000, 997)
    np.testing.assert_array_equal(vectors[few], tiny.embed(items[few]))


def test_ten_thousand_items_in_one_message(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        reply = EmbedgeStub(channel).Embed(pb.EmbedRequest(model="tiny", texts=[b"a cat"] * 10_000))
    assert list(reply.outputs[0].values.shape) == [10_000, 16]
    assert not reply.errors


def test_text_that_is_not_utf_8_fails_alone(address: str, tiny: Embedder) -> None:
    with grpc.insecure_channel(address) as channel:
        reply = EmbedgeStub(channel).Embed(pb.EmbedRequest(model="tiny", texts=[b"a cat", b"\xff\xfe", b"a dog"]))
    [error] = reply.errors
    assert (error.index, error.status) == (1, "INVALID_ARGUMENT")
    assert "Unicode" in error.message
    rows = np.frombuffer(reply.outputs[0].values.data, np.float32).reshape(3, 16)
    np.testing.assert_array_equal(rows[[0, 2]], tiny.embed(["a cat", "a dog"]))
    assert not rows[1].any()


def test_a_part_that_is_no_text_fails_alone(address: str) -> None:
    items = [
        pb.Item(parts={"text": pb.Part(text=b"a cat")}),
        pb.Item(parts={"text": pb.Part(image=b"\x89PNG")}),
        pb.Item(parts={"text": pb.Part()}),
        pb.Item(parts={"picture": pb.Part(text=b"a cat")}),
        pb.Item(),
    ]
    with grpc.insecure_channel(address) as channel:
        reply = EmbedgeStub(channel).Embed(pb.EmbedRequest(model="tiny", items=items))
    assert [(error.index, error.status) for error in reply.errors] == [
        (1, "INVALID_ARGUMENT"),
        (2, "INVALID_ARGUMENT"),
        (3, "NOT_FOUND"),
        (4, "INVALID_ARGUMENT"),
    ]


def test_one_bad_item_among_good_ones(client: Client, tiny: Embedder) -> None:
    reply = client.run("tiny", Request(items=["a cat", "   ", words(100), "a dog"]))
    assert sorted(reply.errors) == [1, 2]
    assert all(isinstance(error, InvalidInput) for error in reply.errors.values())
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 3]], tiny.embed(["a cat", "a dog"]))
    with pytest.raises(InvalidInput, match=r"the text is empty.* \(2 of 4 items failed: 1, 2\)"):
        client.embed("tiny", ["a cat", "   ", words(100), "a dog"])


@pytest.mark.parametrize(
    ("options", "error", "words_in_it"),
    [
        ({"model": "tini"}, NotFound, "model 'tini' is unknown.*other, tiny"),
        ({"tower": "image"}, NotFound, "tower 'image' is unknown.*text"),
        ({"output": "sparse"}, NotFound, "output 'sparse' is unknown.*dense"),
        ({"prompt": "qerry"}, NotFound, "prompt 'qerry' is unknown.*passage, query"),
        ({"dim": 0}, InvalidInput, "dim 0 .*1 to 16"),
        ({"dim": -1}, InvalidInput, "dim -1 .*1 to 16"),
        ({"dim": 17}, InvalidInput, "dim 17 .*1 to 16"),
        ({"dim": 9, "dtype": "ubinary"}, InvalidInput, "multiple of 8"),
        ({"dtype": "int64"}, InvalidInput, "dtype 'int64' is unknown.*float32"),
        ({"items": "a text"}, InvalidInput, "put it into a list"),
        ({"items": ["a", 7]}, InvalidInput, "item 1"),
        ({"items": ["x" * (4 << 20) + "x"]}, InvalidInput, r"bytes, the server's limit \(max_text_bytes\)"),
    ],
)
def test_bad_requests_get_an_error_that_helps(
    client: Client, options: dict[str, object], error: type[Exception], words_in_it: str
) -> None:
    call = {"model": "tiny", "items": ["a cat"], **options}
    with pytest.raises(error, match=words_in_it):
        client.embed(**call)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"dtype": pb.DTYPE_INT32}, "dtype 'int32' is unknown; choose"),
        ({"dtype": pb.DTYPE_INT64}, "dtype 'int64' is unknown; choose"),
        ({"dtype": pb.DTYPE_UINT8}, "dtype 'uint8' is unknown; choose"),
        ({"dtype": pb.DTYPE_FLOAT64}, "dtype 'float64' is unknown; choose"),
        ({"dtype": pb.DTYPE_BOOL}, "dtype 'bool' is unknown; choose"),
        ({"dtype": 77}, "dtype 'number 77' is unknown; choose"),
        ({"priority": 7}, "priority 'number 7' is unknown; choose one of interactive, bulk"),
    ],
)
def test_a_number_that_means_nothing_here_is_refused_at_the_server(
    address: str, option: dict[str, int], says: str
) -> None:
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError, match=says) as raised:
        EmbedgeStub(channel).Embed(pb.EmbedRequest(model="tiny", texts=[b"a"], **option))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_items_and_texts_together_are_refused(address: str) -> None:
    both = pb.EmbedRequest(model="tiny", texts=[b"a"], items=[pb.Item()])
    with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError, match="send one of them"):
        EmbedgeStub(channel).Embed(both)


def test_an_empty_list_has_no_rows_but_a_shape(client: Client) -> None:
    assert client.embed("tiny", []).shape == (0, 16)
    assert client.embed("tiny", [], dim=4, dtype="int8").shape == (0, 4)


def test_a_long_text_is_cut_only_where_that_was_asked_for(client: Client, tiny: Embedder) -> None:
    long = words(300)
    with pytest.raises(InvalidInput, match="302 tokens, the model's limit is 32"):
        client.embed("tiny", [long])
    np.testing.assert_array_equal(client.embed("tiny", [long], truncate=True), tiny.embed([long], truncate=True))

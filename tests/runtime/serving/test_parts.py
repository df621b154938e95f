"""Parts in messages: they come back as they went, and what is wrong with one stays with its item."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from embedge import InvalidInput
from embedge.content import Audio, Image, Text, Vector, Video
from embedge.v1 import embedge_pb2 as pb
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from embedge.wire.messages import several
from embedge.wire.parts import fill_item, item_from_proto
from tests.tiny_towers import CHANNELS, vector

SERIES = np.arange(2 * CHANNELS, dtype=np.float32).reshape(2, CHANNELS)

texts = st.text(max_size=20)
files = st.binary(max_size=50)
numbers = st.floats(allow_nan=False)
dtypes = st.sampled_from(
    "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool >f4 >i8".split()
)
arrays = hnp.arrays(dtypes, hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
rows = st.dictionaries(texts, numbers | texts | st.none(), max_size=4)
contents = st.one_of(
    texts,
    files,
    arrays,
    rows,
    st.builds(Text, texts, pair=st.none() | texts, instruction=st.none() | texts, language=st.none() | texts),
    st.builds(Image, files | arrays),
    st.builds(Audio, files | arrays, st.none() | st.integers(0, 1 << 40)),
    st.builds(Video, files | arrays, st.none() | numbers),
    st.builds(Vector, arrays, st.none() | texts),
)
items = st.dictionaries(texts, contents, max_size=3) | contents.filter(lambda content: not isinstance(content, dict))


def plain(value: Any) -> Any:
    """Return a content as values that can be compared, to the last bit and the dtype."""
    if isinstance(value, np.ndarray):
        native = value.astype(value.dtype.newbyteorder("="))
        return str(native.dtype), native.shape, native.tobytes()
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    fields = getattr(value, "__dataclass_fields__", None)
    if fields:
        held = [plain(getattr(value, name)) for name in fields]
        bare = isinstance(value, Text) and held[1:] == [None] * 3
        return held[0] if bare else (type(value), held)
    return value


@example(item={"table": {}})
@given(item=items)
def test_an_item_comes_back_as_it_went(item: Any) -> None:
    message = pb.Item()
    fill_item(message, item)
    assert plain(item_from_proto(pb.Item.FromString(message.SerializeToString()))) == plain(item)


@given(many=st.lists(items, max_size=12) | st.lists(texts, max_size=12), limit=st.integers(300, 2000))
def test_pieces_hold_all_items_in_order_and_are_as_few_as_the_limit_lets_them_be(many: list[Any], limit: int) -> None:
    sent = list(several(pb.EmbedRequest(model="m"), many, limit))
    back = [text.decode() for each in sent for text in each.texts]
    back += [item_from_proto(item) for each in sent for item in each.items]
    assert plain(dict(enumerate(back))) == plain(dict(enumerate(many)))
    sizes = [each.ByteSize() for each in sent]
    assert max(sizes) <= limit
    assert all(one + other > limit - 300 for one, other in pairwise(sizes))


@pytest.fixture(scope="module")
def stub(zoo_address: str) -> Iterator[EmbedgeStub]:
    with grpc.insecure_channel(zoo_address) as channel:
        yield EmbedgeStub(channel)


def tensor(dtype: int = pb.DTYPE_FLOAT32, shape: tuple[int, ...] = SERIES.shape, data: bytes | None = None) -> pb.Item:
    held = pb.Tensor(dtype=dtype, shape=shape, data=SERIES.tobytes() if data is None else data)
    return pb.Item(parts={"series": pb.Part(tensor=held)})


GIB = 1 << 30
BAD = [
    (tensor(shape=(GIB, 1)), r"float32 \[1073741824, 1\] has 4,294,967,296 bytes, but 40 were sent"),
    (tensor(shape=(1 << 62, 1 << 62), data=b""), "but 0 were sent"),
    (tensor(shape=(0, 1 << 62, 1 << 62), data=b""), "is not possible"),
    (tensor(shape=(-2, -5)), r"shape \[-2, -5\] is not possible"),
    (tensor(shape=(1,) * 40, data=bytes(4)), "is not possible"),
    (tensor(shape=()), "has 4 bytes, but 40 were sent"),
    (tensor(data=b"123"), "has 40 bytes, but 3 were sent"),
    (tensor(dtype=77), "dtype is number 77"),
    (tensor(dtype=pb.DTYPE_UBINARY), "dtype is ubinary"),
    (tensor(dtype=pb.DTYPE_BOOL, data=b"\x02" * 10), "neither 0 nor 1"),
    (tensor(shape=(10,)), "has 1 axes"),
    (pb.Item(parts={"series": pb.Part(text=b"a cat")}), "a tensor float32 .* is needed here, not str"),
    (pb.Item(parts={"series": pb.Part(image=b"\x89PNG")}), "a tensor float32 .* is needed here, not Image"),
    (pb.Item(parts={"series": pb.Part()}), "part 'series': the part is empty"),
    (pb.Item(parts={"sereis": pb.Part(text=b"a")}), "part 'sereis' is unknown; this tower takes: series"),
    (pb.Item(part=pb.Part(row=pb.Row())), "a row of a table needs the name of its part"),
    (pb.Item(part=pb.Part(text=b"a"), parts={"series": pb.Part(text=b"a")}), "both 'part' and 'parts'"),
    (pb.Item(), "part 'series' is missing"),
]


@pytest.mark.parametrize(("bad", "says"), BAD)
def test_a_bad_part_fails_alone_and_says_why(stub: EmbedgeStub, bad: pb.Item, says: str) -> None:
    reply = stub.Embed(pb.EmbedRequest(model="towers", tower="series", items=[tensor(), bad, tensor()]))
    [error] = reply.errors
    assert (error.index, error.status) == (1, "NOT_FOUND" if "unknown" in says else "INVALID_ARGUMENT")
    assert re.search(says, error.message), error.message
    values = np.frombuffer(reply.outputs[0].values.data, np.float32).reshape(3, -1)
    np.testing.assert_array_equal(values[[0, 2]], [vector(series=SERIES)] * 2)


def test_a_damaged_item_alone_says_why_where_no_tower_is_named(stub: EmbedgeStub) -> None:
    with pytest.raises(grpc.RpcError, match="the part is empty") as raised:
        stub.Embed(pb.EmbedRequest(model="towers", items=[pb.Item(part=pb.Part())]))
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_text_that_is_not_utf_8_in_any_place_fails_alone(stub: EmbedgeStub) -> None:
    good = pb.Part(text=b"a cat")
    parts = [good, pb.Part(text=b"\xff"), pb.Part(text=b"a", pair=b"\xff"), pb.Part(text=b"a", instruction=b"\xff")]
    items = [pb.Item(part=part) for part in parts]
    reply = stub.Embed(pb.EmbedRequest(model="kinds", tower="text", items=items))
    assert [(error.index, error.status) for error in reply.errors] == [(i, "INVALID_ARGUMENT") for i in (1, 2, 3)]


CLIP = pb.Tensor(shape=[10], data=bytes(40))
FRAMES = pb.Tensor(dtype=pb.DTYPE_UINT8, shape=[2, 4, 4, 3], data=bytes(96))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
@pytest.mark.parametrize(("tower", "held"), [("audio", {"samples": CLIP}), ("video", {"frames": FRAMES})])
def test_a_rate_that_is_none_fails_alone(stub: EmbedgeStub, tower: str, held: dict[str, Any], rate: float) -> None:
    message = pb.Item(part=pb.Part(rate=rate, **held))
    reply = stub.Embed(pb.EmbedRequest(model="kinds", tower=tower, items=[message]))
    assert [(error.index, error.status) for error in reply.errors] == [(0, "INVALID_ARGUMENT")]
    assert "rate" in reply.errors[0].message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.array(["a"]), "an array of dtype <U1 cannot be sent"),
        (np.array([object()]), "an array of dtype object cannot be sent"),
        ([[1, 2], [3]], "this list is none|this list does not make one"),
        (np.ma.masked_equal([1, 2], 2), "the array is masked"),
        (
            Image(Path("/dev/full")),
            "/dev/full cannot be read: it does not exist, or is not a file",
        ),  # endless zeros
        (Image(Path("a\0b")), "cannot be read: it does not exist, or is not a file"),
        (Image("cat.png"), "its Path or an array is needed, not str"),  # type: ignore[arg-type]
        (Audio(b"", "fast"), "the rate must be a number, not 'fast'"),  # type: ignore[arg-type]
        (Text(5), "a text is needed, not int"),  # type: ignore[arg-type]
        (Text("a", language="\udc80"), "the language of a text .* holds lone surrogates"),
        (Vector(np.zeros(2), 5), "the space of a vector must be a text, not int"),  # type: ignore[arg-type]
        ({"part": {5: 1}}, "part 'part': the name of a column must be a text, not int"),
        ({"part": {"age": [1]}}, "part 'part': column 'age' must be a number"),
        ({"part": {"age": 10**400}}, "part 'part': column 'age' must be a number"),
        (None, "NoneType cannot be embedded"),
        ({"part": {1, 2}}, "part 'part': set cannot be embedded"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_the_client(content: object, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        list(several(pb.EmbedRequest(), ["a cat", content], 1 << 20))

"""The Open Inference Protocol, spoken by a client that is not ours."""

from __future__ import annotations

import io
from collections.abc import Iterator

import grpc
import numpy as np
import PIL.Image
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as theirs
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from embedge import Embedder, Request
from embedge.content import Image, Vector
from embedge.oip import grpc_service_pb2 as ours
from tests.tiny_kinds import KINDS
from tests.tiny_towers import CHANNELS

TEXTS = ["a red cat", "naïve 🌲", "the dog runs"]


@pytest.fixture(scope="module")
def oip(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def tensor(texts: list[str], *shape: int) -> triton.InferInput:
    made = triton.InferInput("text", shape or (len(texts),), "BYTES")
    made.set_data_from_numpy(np.array([text.encode() for text in texts], dtype=object).reshape(shape or len(texts)))
    return made


def infer(oip: triton.InferenceServerClient, texts: list[str], **options: object) -> triton.InferResult:
    return oip.infer("tiny", [tensor(texts)], **options)


def test_the_server_is_there_and_says_what_it_has(oip: triton.InferenceServerClient) -> None:
    assert oip.is_server_live()
    assert oip.is_server_ready()
    assert oip.is_model_ready("tiny")
    assert oip.is_model_ready("tiny", "1")
    assert not oip.is_model_ready("tiny", "2")
    assert not oip.is_model_ready("tini")
    assert oip.get_server_metadata().name == "embedge"
    metadata = oip.get_model_metadata("tiny")
    assert list(metadata.versions) == ["1"]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("text", "BYTES", [-1])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("dense", "FP32", [-1, 16])]


def test_vectors_are_those_of_the_model_bit_for_bit(oip: triton.InferenceServerClient, tiny: Embedder) -> None:
    result = infer(oip, TEXTS, request_id="7")
    np.testing.assert_array_equal(result.as_numpy("dense"), tiny.embed(TEXTS), strict=True)
    assert result.get_response().id == "7"
    column = oip.infer("tiny", [tensor(TEXTS, 3, 1)], outputs=[triton.InferRequestedOutput("dense")])
    np.testing.assert_array_equal(column.as_numpy("dense"), tiny.embed(TEXTS))


def test_parameters_carry_the_options(oip: triton.InferenceServerClient, tiny: Embedder) -> None:
    options = {"dim": 4, "prompt": "query", "tower": "text", "truncate": True, "priority": 0}
    del options["priority"]  # tritonclient keeps this name for itself
    result = infer(oip, TEXTS, parameters=options)
    np.testing.assert_array_equal(result.as_numpy("dense"), tiny.embed(TEXTS, dim=4, prompt="query", truncate=True))
    half = infer(oip, TEXTS, parameters={"dtype": "float16"}).as_numpy("dense")
    np.testing.assert_array_equal(half, tiny.embed(TEXTS, dtype="float16"), strict=True)
    whole = infer(oip, TEXTS, parameters={"dtype": "int8"})
    np.testing.assert_array_equal(whole.as_numpy("dense"), tiny.embed(TEXTS, dtype="int8"), strict=True)
    assert whole.as_numpy("dense_scales").shape == (3,)


def typed_request(*texts: bytes, **fields: object) -> theirs.ModelInferRequest:
    request = theirs.ModelInferRequest(model_name="tiny", **fields)
    request.inputs.add(name="text", datatype="BYTES", shape=[len(texts)]).contents.bytes_contents.extend(texts)
    return request


def packed(request: theirs.ModelInferRequest, data: bytes) -> None:
    """Put `data` in the place of the first input's typed contents."""
    request.inputs[0].ClearField("contents")
    request.raw_input_contents.append(data)


def call(oip: triton.InferenceServerClient, request: theirs.ModelInferRequest) -> theirs.ModelInferResponse:
    return oip._client_stub.ModelInfer(request)


def test_typed_contents_are_answered_in_typed_contents(oip: triton.InferenceServerClient, tiny: Embedder) -> None:
    response = call(oip, typed_request(b"a cat", b"a dog"))
    assert not response.raw_output_contents
    values = np.array(response.outputs[0].contents.fp32_contents, np.float32).reshape(2, 16)
    np.testing.assert_array_equal(values, tiny.embed(["a cat", "a dog"]))
    for dtype, field in (("int8", "int_contents"), ("ubinary", "uint_contents")):
        request = typed_request(b"a cat")
        request.parameters["dtype"].string_param = dtype
        values = getattr(call(oip, request).outputs[0].contents, field)
        assert list(values) == tiny.embed(["a cat"], dtype=dtype)[0].tolist()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dim": 99}, "dim 99"),
        ({"dim": "4"}, "'dim' must be sent as int64_param, not as string_param"),
        ({"truncate": 1}, "'truncate' must be sent as bool_param"),
        ({"dtype": "bf16"}, "'bf16' is unknown"),
        ({"tower": "image"}, "tower 'image' is unknown"),
    ],
)
def test_bad_parameters(oip: triton.InferenceServerClient, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InferenceServerException, match=message):
        infer(oip, TEXTS, parameters=parameters)


def test_a_bad_item_fails_its_request(oip: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="item 1: the text is empty") as raised:
        infer(oip, ["a cat", " "])
    assert raised.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.inputs.pop(), "no inputs"),
        (lambda r: setattr(r.inputs[0], "datatype", "FP32"), "texts are BYTES"),
        (lambda r: r.inputs[0].shape.append(2), r"shape \[1, 2\], but 1 elements"),
        (lambda r: packed(r, b"\x09\x00\x00\x00ab"), "end inside an element"),
        (lambda r: packed(r, b"\x09\x00"), "end inside an element"),
        (
            lambda r: r.raw_input_contents.append(b"\x01\x00\x00\x00a"),
            "typed contents and raw_input_contents; send one",
        ),
        (lambda r: r.inputs.append(r.inputs[0]), "input 'text' is there 2 times"),
        (lambda r: r.raw_input_contents.extend([b"", b""]), "1 inputs, but 2 raw_input_contents"),
        (lambda r: setattr(r.inputs[0], "name", "words"), "part 'words' is unknown"),
        (lambda r: r.inputs.add(name="b", datatype="BYTES", shape=[0]), "differ in their number"),
        (lambda r: setattr(r, "model_version", "9"), "has version 1, not '9'"),
        (lambda r: setattr(r, "model_name", "tini"), "model 'tini' is unknown"),
        (lambda r: r.outputs.add(name="sparse"), "output 'sparse' is unknown"),
        (lambda r: r.parameters["priority"].MergeFrom(theirs.InferParameter(string_param="x")), "interactive, bulk"),
    ],
)
def test_bad_requests(oip: triton.InferenceServerClient, change: object, message: str) -> None:
    request = typed_request(b"a cat")
    change(request)
    with pytest.raises(Exception, match=message) as raised:
        call(oip, request)
    assert raised.value.code().name in ("INVALID_ARGUMENT", "NOT_FOUND")


@pytest.fixture(scope="module")
def zoo_oip(zoo_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(zoo_address) as client:
        yield client


def given(name: str, values: np.ndarray, datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, values.shape, datatype)
    made.set_data_from_numpy(values)
    return made


def elements(name: str, *data: bytes) -> triton.InferInput:
    return given(name, np.array(data, dtype=object), "BYTES")


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


PIXELS = np.arange(2 * 5 * 6 * 3, dtype=np.uint8).reshape(2, 5, 6, 3)
SERIES = np.arange(2 * 3 * CHANNELS, dtype=np.float32).reshape(2, 3, CHANNELS)


def test_a_model_of_several_towers_lists_the_parts_of_all(zoo_oip: triton.InferenceServerClient) -> None:
    metadata = zoo_oip.get_model_metadata("towers")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [
        ("text", "BYTES", [-1]),
        ("image", "BYTES", [-1]),
        ("series", "FP32", [-1, -1, CHANNELS]),
    ]
    metadata = zoo_oip.get_model_metadata("kinds")
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs][-2:] == [
        ("table", "BYTES", [-1]),
        ("vector", "FP32", [-1, 4]),
    ]
    assert {t.name: (t.datatype, list(t.shape)) for t in metadata.outputs} == {
        "dense": ("FP32", [-1, 8]),
        "tokens": ("FP32", [-1, -1, 8]),
        "sparse": ("FP32", [-1, -1]),
        "sparse_indices": ("INT32", [-1, -1]),
        "gaussian": ("FP32", [-1, 8]),
        "gaussian_log_variance": ("FP32", [-1, 8]),
        "bits": ("UINT8", [-1, 1]),
        "codes": ("INT32", [-1, 8]),
        "token_codes": ("INT32", [-1, -1, 8]),
        "scores": ("FP32", [-1, 3]),
    }


def test_images_are_embedded(zoo_oip: triton.InferenceServerClient, towers: Embedder) -> None:
    expected = towers.embed([Image(pixels) for pixels in PIXELS])
    files = elements("image", *map(png, PIXELS))
    for image in (files, given("image", PIXELS, "UINT8")):
        result = zoo_oip.infer("towers", [image])
        np.testing.assert_array_equal(result.as_numpy("dense"), expected, strict=True)
    both = zoo_oip.infer("towers", [files, elements("text", b"a cat", b"a dog")])
    items = [{"image": Image(pixels), "text": text} for pixels, text in zip(PIXELS, ("a cat", "a dog"), strict=True)]
    np.testing.assert_array_equal(both.as_numpy("dense"), towers.embed(items), strict=True)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "int64", "uint8"])
def test_typed_tensors_go_over_items_with_their_first_axis(
    zoo_oip: triton.InferenceServerClient, towers: Embedder, dtype: str
) -> None:
    values = SERIES.astype(dtype)
    result = zoo_oip.infer("towers", [given("series", values, np_to_triton_dtype(values.dtype))])
    np.testing.assert_array_equal(result.as_numpy("dense"), towers.embed(list(SERIES)), strict=True)


def test_typed_contents_of_tensors(zoo_oip: triton.InferenceServerClient, towers: Embedder) -> None:
    fields = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT32": "int_contents", "UINT64": "uint64_contents"}
    for datatype, field in fields.items():
        request = theirs.ModelInferRequest(model_name="towers")
        made = request.inputs.add(name="series", datatype=datatype, shape=SERIES.shape)
        numbers = SERIES.ravel().tolist()
        getattr(made.contents, field).extend(numbers if "FP" in datatype else map(int, numbers))
        values = np.array(call(zoo_oip, request).outputs[0].contents.fp32_contents, np.float32)
        np.testing.assert_array_equal(values.reshape(2, -1), towers.embed(list(SERIES)))


def test_vectors_and_rows_of_tables(zoo_oip: triton.InferenceServerClient, kinds: Embedder) -> None:
    vectors = np.arange(8, dtype=np.float32).reshape(2, 4)
    result = zoo_oip.infer("kinds", [given("vector", vectors, "FP32")])
    np.testing.assert_array_equal(result.as_numpy("dense"), kinds.embed([Vector(each) for each in vectors]))
    result = zoo_oip.infer("kinds", [elements("table", b'{"age": 3, "town": "Chur"}', b'{"age": 4, "income": null}')])
    rows = [{"table": {"age": 3, "town": "Chur"}}, {"table": {"age": 4}}]
    np.testing.assert_array_equal(result.as_numpy("dense"), kinds.embed(rows))
    with pytest.raises(InferenceServerException, match="element 1 is not a JSON object"):
        zoo_oip.infer("kinds", [elements("table", b"{}", b"[1]")])


@pytest.mark.parametrize("packed", [True, False])
def test_every_kind_is_a_tensor_where_items_have_as_much(
    zoo_oip: triton.InferenceServerClient, kinds: Embedder, packed: bool
) -> None:
    texts = ["red cat", "blue dog"]
    request = typed_request(*(text.encode() for text in texts), parameters={"tower": {"string_param": "text"}})
    request.model_name = "kinds"
    if packed:
        request.inputs[0].ClearField("contents")
        request.raw_input_contents.append(b"".join(len(t).to_bytes(4, "little") + t.encode() for t in texts))
    names = [name for name in KINDS if name != "sparse"]
    for name in names:
        request.outputs.add(name=name)
    result = triton.InferResult(call(zoo_oip, request)) if packed else call(zoo_oip, request)
    local = kinds.run(Request(items=texts, tower="text", outputs=tuple(names))).outputs
    arrays = {"gaussian": local["gaussian"].mean, "gaussian_log_variance": local["gaussian"].log_variance}
    arrays |= {name: local[name].values for name in names if name != "gaussian"}
    arrays |= {name: arrays[name].reshape(2, -1, 8) for name in ("tokens", "token_codes")}
    if packed:
        for name, array in arrays.items():
            np.testing.assert_array_equal(result.as_numpy(name), array, strict=True)
    else:
        for tensor in result.outputs:
            [(_, values)] = tensor.contents.ListFields()
            np.testing.assert_array_equal(np.reshape(values, tensor.shape), arrays[tensor.name])


def test_items_that_differ_in_size_are_refused_with_the_way_out(
    zoo_oip: triton.InferenceServerClient, kinds: Embedder
) -> None:
    with pytest.raises(InferenceServerException, match=r"output 'tokens' .* use embedge\.v1, or send one item a call"):
        zoo_oip.infer("kinds", [elements("text", b"a cat", b"a")], outputs=[triton.InferRequestedOutput("tokens")])
    one = zoo_oip.infer("kinds", [elements("text", b"a cat")], outputs=[triton.InferRequestedOutput("sparse")])
    [(indices, weights)] = kinds.run(Request(items=["a cat"], outputs=("sparse",))).outputs["sparse"]
    np.testing.assert_array_equal(one.as_numpy("sparse"), weights[None], strict=True)
    np.testing.assert_array_equal(one.as_numpy("sparse_indices"), indices[None], strict=True)


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (elements("series", b"a"), "input 'series' is a tensor, not BYTES"),
        (given("text", SERIES, "FP32"), "texts are BYTES"),
        (given("series", SERIES[:, :, 1:], "FP32"), "axis 1 has size 4, this part takes 5"),
        (elements("image", b"no image"), "item 0: "),
    ],
)
def test_an_input_of_another_modality_is_refused(
    zoo_oip: triton.InferenceServerClient, sent: triton.InferInput, says: str
) -> None:
    with pytest.raises(InferenceServerException, match=says):
        zoo_oip.infer("towers", [sent])


@pytest.mark.parametrize(
    ("shape", "datatype", "data", "says"),
    [
        (
            [1 << 15, 1 << 15, 5],
            "FP32",
            b"",
            r"input 'series': .* has 21,474,836,480 bytes, but 0 were",
        ),
        ([1, -1, 5], "FP32", b"", "is not possible"),
        ([], "FP32", b"1234", "has no axis"),
        ([1, 1, 5], "BF16", bytes(10), "datatype BF16, which no part can be"),
    ],
)
def test_an_input_of_other_bytes_than_it_announces_is_refused(
    zoo_oip: triton.InferenceServerClient, shape: list[int], datatype: str, data: bytes, says: str
) -> None:
    request = theirs.ModelInferRequest(model_name="towers", raw_input_contents=[data])
    request.inputs.add(name="series", datatype=datatype, shape=shape)
    with pytest.raises(grpc.RpcError, match=says) as raised:
        call(zoo_oip, request)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_items_of_no_bytes_are_counted_before_they_are_made(zoo_address: str) -> None:
    huge = ours.ModelInferRequest.InferInputTensor(name="vector", datatype="FP32", shape=[1 << 40, 0])
    many = ours.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
    many.contents.bytes_contents.extend([b""] * 100_000)
    with grpc.insecure_channel(zoo_address) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for tensor, says in ((huge, "has 1,099,511,627,776 items, a call has at most 32,768"), (many, "2 elements")):
            request = ours.ModelInferRequest(model_name="kinds", inputs=[tensor])
            with pytest.raises(grpc.RpcError, match=says):
                infer(request.SerializeToString(), timeout=20)


def test_both_sets_of_messages_live_in_one_process() -> None:
    mine = ours.ModelInferRequest(model_name="tiny", id="1")
    mine.parameters["dim"].int64_param = 3
    assert ours.ModelInferRequest.DESCRIPTOR.full_name == theirs.ModelInferRequest.DESCRIPTOR.full_name
    assert theirs.ModelInferRequest.FromString(mine.SerializeToString()).parameters["dim"].int64_param == 3

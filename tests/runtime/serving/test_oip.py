"""The Open Inference Protocol, spoken by a client that is not ours."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2 as theirs
from tritonclient.utils import InferenceServerException

from embedge import Embedder
from embedge.oip import grpc_service_pb2 as ours

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


def test_both_sets_of_messages_live_in_one_process() -> None:
    mine = ours.ModelInferRequest(model_name="tiny", id="1")
    mine.parameters["dim"].int64_param = 3
    assert ours.ModelInferRequest.DESCRIPTOR.full_name == theirs.ModelInferRequest.DESCRIPTOR.full_name
    assert theirs.ModelInferRequest.FromString(mine.SerializeToString()).parameters["dim"].int64_param == 3

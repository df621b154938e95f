"""Bundles and messages of format 1, written by earlier code, keep their meaning and their bits."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import Bundle, Embedder
from embedge.bundle import manifest as manifests
from embedge.content import Audio, Image, Text, Vector, Video
from embedge.outputs import Codes, Gaussian, MultiVectors, Scores, Sparse, Vectors
from embedge.request import Request, Timings
from embedge.v1 import embedge_pb2 as pb
from embedge.verify import Golden, verify
from embedge.wire.convert import fill_reply, reply_from_proto, request_from_proto, request_to_proto
from tests.tiny import words

DATA = Path(__file__).parents[1] / "data" / "bundle_v1"
BUNDLE = DATA / "tiny" / "1"
TEXTS = [words(1 + number % 20, seed=number) for number in range(40)]


def stored(name: str, dtype: str, *shape: int) -> NDArray[Any]:
    """Return a stored array: vectors (40, dim), or scales (40,)."""
    return np.frombuffer((DATA / "vectors" / f"{name}.bin").read_bytes(), dtype).reshape(len(TEXTS), *shape)


@pytest.fixture(scope="module")
def embedder() -> Iterator[Embedder]:
    with Embedder.open(BUNDLE) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "dtype", "width", "options"),
    [
        ("float32", "<f4", 16, {}),
        ("dim8", "<f4", 8, {"dim": 8}),
        ("query", "<f4", 16, {"prompt": "query"}),
        ("float16", "<f2", 16, {"dtype": "float16"}),
        ("ubinary", "u1", 2, {"dtype": "ubinary"}),
        ("int8", "i1", 16, {"dtype": "int8"}),
    ],
)
def test_vectors_have_the_same_bits(
    name: str, dtype: str, width: int, options: dict[str, Any], embedder: Embedder
) -> None:
    vectors = embedder.embed(TEXTS, truncate=True, **options)

    expected = stored(name, dtype, width)
    assert vectors.shape == expected.shape
    assert vectors.tobytes() == expected.astype(expected.dtype.newbyteorder("=")).tobytes()


def test_scales_have_the_same_bits(embedder: Embedder) -> None:
    vectors = embedder.run(Request(items=TEXTS, truncate=True, dtype="int8")).outputs["dense"]

    assert isinstance(vectors, Vectors)
    np.testing.assert_array_equal(vectors.scales, stored("int8.scales", "<f4"))


def test_golden_pairs_are_those_that_were_written() -> None:
    pairs = Golden.read(Bundle.load(BUNDLE)).towers["text"]

    assert pairs.items == [{"text": text} for text in TEXTS]
    np.testing.assert_array_equal(np.stack(pairs.outputs["dense"]), stored("float32", "<f4", 16))


def test_the_certificate_holds_and_can_be_repeated() -> None:
    written = json.loads((BUNDLE / manifests.FILE_NAME).read_bytes())["certificate"]
    known = Bundle.load(BUNDLE).manifest.certificate
    assert known is not None
    assert known.passed

    repeated = verify(BUNDLE)

    assert repeated.passed
    assert set(json.loads(manifests.encode(with_certificate(repeated)))["certificate"]["figures"]) == set(
        written["figures"]
    )


def with_certificate(certificate: manifests.Certificate) -> manifests.Manifest:
    return msgspec.structs.replace(Bundle.load(BUNDLE).manifest, certificate=certificate)


@pytest.mark.parametrize(
    "file", [BUNDLE / manifests.FILE_NAME, *sorted((DATA / "manifests").iterdir())], ids=lambda file: file.stem
)
def test_a_manifest_is_written_as_it_was_read(file: Path) -> None:
    data = file.read_bytes()

    assert json.loads(manifests.encode(manifests.decode(data, where=file.name))) == json.loads(data)


def facts(value: Any) -> Any:
    """Return a content as values that can be compared: arrays as dtype and numbers, classes with their fields."""
    if isinstance(value, np.ndarray):
        return value.dtype.name, value.tolist()
    if isinstance(value, Mapping):
        return {name: facts(each) for name, each in value.items()}
    if dataclasses.is_dataclass(value):
        return type(value), {each.name: facts(getattr(value, each.name)) for each in dataclasses.fields(value)}
    return value


def request(name: str) -> tuple[pb.EmbedRequest, Request]:
    message = pb.EmbedRequest.FromString((DATA / "messages" / f"{name}.request").read_bytes())
    return message, request_from_proto(message, deadline=None)


def test_a_request_for_texts_means_the_same() -> None:
    message, parsed = request("texts")

    assert message.model == "tiny"
    assert parsed == Request(
        items=TEXTS[:3],
        tower="text",
        outputs=("dense",),
        dim=8,
        dtype="int8",
        prompt="query",
        truncate=True,
        priority="bulk",
    )


def test_a_request_with_parts_of_every_modality_means_the_same() -> None:
    _, parsed = request("parts")

    assert (parsed.pool, parsed.dtype, parsed.dim, parsed.priority) == (4, "float16", None, "interactive")
    assert [facts(item) for item in parsed.items] == [
        {
            "text": (Text, {"text": "a cat", "pair": "a dog", "instruction": "find", "language": "en"}),
            "image": (Image, {"data": b"\x89PNG"}),
        },
        {
            "audio": (Audio, {"data": b"RIFF", "rate": None}),
            "video": (Video, {"data": b"webm", "rate": None}),
        },
        {"audio": (Audio, {"data": ("float32", [0.0, 1.0, 2.0, 3.0]), "rate": 16000.0})},
        {"vector": (Vector, {"values": ("float32", [0.0, 1.0, 2.0, 3.0]), "space": "s"})},
        {
            "series": ("float32", [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]),
            "row": {"age": 4.0, "colour": "red", "size": None},
        },
        {"text": ["a", "b"]},
    ]


@pytest.mark.parametrize("name", ["texts", "parts"])
def test_a_request_is_sent_as_it_was(name: str) -> None:
    message, parsed = request(name)

    assert request_to_proto(message.model, parsed) == message


def reply(name: str) -> pb.EmbedReply:
    return pb.EmbedReply.FromString((DATA / "messages" / f"{name}.reply").read_bytes())


def test_a_reply_means_the_same() -> None:
    parsed = reply_from_proto(reply("dense"))

    assert (parsed.model, parsed.version, parsed.tower) == ("tiny", "1", "text")
    assert parsed.timings == Timings(0.001, 0.002, 0.003)
    assert parsed.tokens.tolist() == [2 + len(text.split()) for text in TEXTS]
    vectors = parsed.outputs["dense"]
    assert isinstance(vectors, Vectors)
    assert (vectors.space, vectors.dtype) == ("tiny-16-0", "int8")
    np.testing.assert_array_equal(vectors.values, stored("int8", "i1", 16))
    np.testing.assert_array_equal(vectors.scales, stored("int8.scales", "<f4"))


def test_a_reply_with_outputs_of_every_kind_means_the_same() -> None:
    parsed = reply_from_proto(reply("kinds"))

    kinds = {name: type(result) for name, result in parsed.outputs.items()}
    assert kinds == {
        "dense": Vectors,
        "multi": MultiVectors,
        "whole": MultiVectors,
        "sparse": Sparse,
        "gaussian": Gaussian,
        "bits": Codes,
        "codes": Codes,
        "scores": Scores,
    }
    assert {index: (error.grpc, error.index) for index, error in parsed.errors.items()} == {1: ("INVALID_ARGUMENT", 1)}
    assert parsed.tokens.tolist() == [5, 0, 7]


@pytest.mark.parametrize("name", ["dense", "kinds"])
def test_a_reply_is_sent_as_it_was(name: str) -> None:
    written = pb.EmbedReply()
    fill_reply(written, reply_from_proto(reply(name)))

    assert written == reply(name)

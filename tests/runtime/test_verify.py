"""Verify: the golden pairs say whether a bundle gives the original's vectors on this device."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from embedge import Bundle, Embedder
from embedge.bundle import manifest, sha256
from embedge.bundle.manifest import Certificate, Metric
from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.content import Audio, Image, Text, Vector, Video
from embedge.errors import BundleError
from embedge.verify import Golden, Pairs, compare, contents, retrieval, verify
from tests.tiny import tiny_bundle, words

THRESHOLDS = {"finite": 1.0, "cosine_min": 0.99999, "max_abs": 1e-4, "recall_at_10": 0.99, "rank_agreement": 0.99}
THRESHOLDS |= {f"{kind}_cosine": 0.99999 for kind in ("batch", "padding", "order")}
THRESHOLDS |= {f"{kind}_max_abs": 1e-4 for kind in ("batch", "padding", "order")}


def pairs(texts: list[str], vectors: np.ndarray) -> Golden:
    """Golden pairs of a text tower."""
    return Golden({"text": Pairs([{"text": text} for text in texts], {"dense": list(vectors)})})


def proven(path: Path, golden: Golden | None = None) -> Path:
    """Give the bundle golden pairs (its own vectors, or `golden`) and a certificate with thresholds."""
    if golden is None:
        texts = [words(1 + number % 20, seed=number) for number in range(40)]
        with Embedder.open(path) as embedder:
            golden = pairs(texts, embedder.embed(texts, truncate=True))
    (path / "golden.npz").write_bytes(golden.to_bytes())
    metrics = {
        name: Metric(value=0, threshold=threshold, better="lower" if name.endswith("max_abs") else "higher")
        for name, threshold in THRESHOLDS.items()
    }
    certificate = Certificate(metrics=metrics, items=0, corpus="", device="", backend="")
    known = Bundle.load(path, verify=False).manifest
    files = {**known.files, "golden.npz": sha256(path / "golden.npz")}
    changed = msgspec.structs.replace(known, files=files, golden="golden.npz", certificate=certificate)
    (path / manifest.FILE_NAME).write_bytes(manifest.encode(changed))
    return path


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_true_bundle_passes_every_metric(side: str, tmp_path: Path) -> None:
    certificate = verify(proven(tiny_bundle(tmp_path / "b", padding_side=side)))
    assert certificate.passed
    assert set(certificate.metrics) == set(THRESHOLDS)
    assert certificate.items == 40


def test_other_vectors_miss_and_name_the_input(tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"))
    golden = Golden.read(Bundle.load(path)).towers["text"]
    vectors = np.stack(golden.outputs["dense"])
    vectors[7] = vectors[7][::-1]
    certificate = verify(proven(path, Golden({"text": Pairs(golden.items, {"dense": list(vectors)})})))
    assert not certificate.passed
    assert certificate.metrics["cosine_min"].worst.startswith("#7 ")
    assert certificate.metrics["max_abs"].worst.startswith("#7 ")
    assert certificate.metrics["batch_cosine"].passed


def test_vectors_of_another_size_are_an_error(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match=r"text\.dense gives an item the shape \(16,\), the original \(4,\)"):
        verify(proven(path, pairs(["a cat"], np.ones((1, 4), np.float32))))


def test_a_bundle_without_certificate_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no certificate"):
        verify(tiny_bundle(tmp_path / "b"))


def archive(index: object, **arrays: object) -> bytes:
    buffer = io.BytesIO()
    kept = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez(buffer, index=np.frombuffer(json.dumps(index).encode(), np.uint8), **kept)
    return buffer.getvalue()


def lone_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((2, 16), np.float32))
    return buffer.getvalue()


def told(items: object, dense: object = ("a0", None), tower: str = "text") -> dict[str, object]:
    return {tower: {"items": items, "outputs": {"dense": dense}}}


_TRUE = np.ones((2, 16), np.float32)
_TEXTS = [{"text": {"kind": "text", "text": text}} for text in ("a", "b")]

DAMAGED = {
    "nothing": b"",
    "no archive": b"PK\x03\x04 nonsense",
    "a lone array": lone_array(),
    "cut": archive(told(_TEXTS), a0=_TRUE)[:-40],
    "no index": archive(7, a0=_TRUE),
    "another index": archive({"text": {"items": _TEXTS}}, a0=_TRUE),
    "no items": archive(told([]), a0=np.ones((0, 16), np.float32)),
    "fewer items": archive(told(_TEXTS[:1]), a0=_TRUE),
    "a kind that is none": archive(told([{"text": {"kind": "smell"}}] * 2), a0=_TRUE),
    "an image without its array": archive(told([{"text": {"kind": "image"}}] * 2), a0=_TRUE),
    "texts for numbers": archive(told(_TEXTS), a0=[["1"], ["2"]]),
    "a number for a table": archive(told(_TEXTS), a0=np.float32(1)),
    "an array that is not there": archive(told(_TEXTS, ("a9", None)), a0=_TRUE),
    "offsets that go back": archive(told(_TEXTS, ("a0", "a1")), a0=_TRUE, a1=np.array([0, 3, 2])),
    "offsets past the end": archive(told(_TEXTS, ("a0", "a1")), a0=_TRUE, a1=np.array([0, 1, 9])),
    "no offsets": archive(told(_TEXTS, ("a0", "a1")), a0=_TRUE, a1=np.zeros(0, np.int64)),
    "another tower": archive(told(_TEXTS, tower="image"), a0=_TRUE),
}


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_golden_pairs_of_another_form_are_refused(data: bytes, tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"), pairs(["a cat"], np.ones((1, 16), np.float32)))
    (path / "golden.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"golden\.npz: .*export the bundle again"):
        Golden.read(Bundle.load(path, verify=False))


def test_golden_pairs_that_would_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = proven(tiny_bundle(tmp_path / "b"), pairs(["a cat"], np.ones((1, 16), np.float32)))
    monkeypatch.setattr("embedge.verify.golden._MOST_BYTES", 100)
    with pytest.raises(BundleError, match="more than 100 bytes"):
        Golden.read(Bundle.load(path))


def test_pickles_among_golden_pairs_are_not_read(tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"), pairs(["a cat"], np.ones((1, 16), np.float32)))
    index = np.frombuffer(json.dumps(told(_TEXTS)).encode(), np.uint8)
    np.savez(path / "golden.npz", index=index, a0=np.array(["a", object()], dtype=object))
    with pytest.raises(BundleError, match="golden pairs cannot be read"):
        Golden.read(Bundle.load(path, verify=False))


CONTENTS: list[Any] = [
    "a text",
    Text("one", pair="two", instruction="do", language="de"),
    Image(b"\x89PNG"),
    Image(np.zeros((4, 5, 3), np.uint8)),
    Audio(b"RIFF"),
    Audio(np.zeros(9, np.float32), 16_000),
    Video(np.zeros((2, 4, 5, 3), np.uint8), 12.5),
    Vector(np.ones(3, np.float32), "space"),
    np.ones((2, 3), np.int64),
    {"age": 3.5, "town": "Rome", "size": None},
    [Image(b"\x89PNG"), Image(b"RIFF")],
    [[Image(b"a")], [Image(b"b"), Image(b"c")]],
]


def alike(back: Any, content: Any) -> None:
    assert type(back) is type(content)
    if isinstance(content, list):
        for one, other in zip(back, content, strict=True):
            alike(one, other)
    elif isinstance(content, np.ndarray):
        np.testing.assert_array_equal(back, content)
    elif hasattr(content, "__slots__") and not isinstance(content, Text):
        for field in content.__slots__:
            np.testing.assert_array_equal(getattr(back, field), getattr(content, field))
    else:
        assert back == content


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: type(content).__name__)
def test_contents_of_every_modality_travel(content: Any) -> None:
    arrays: list[np.ndarray] = []

    def keep(array: np.ndarray) -> str:
        arrays.append(array)
        return str(len(arrays) - 1)

    packed = msgspec.json.decode(msgspec.json.encode(contents.pack(content, keep)), type=contents.PackedContent)
    back = contents.unpack(packed, {str(place): array for place, array in enumerate(arrays)})
    alike(back, content)
    assert contents.label(content)
    assert contents.size(content) == sum(array.nbytes for array in arrays) + len(packed.text)


def test_ragged_results_travel(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "b")
    rows = [np.full((count, 16), count, np.float32) for count in (3, 0, 1)]
    proven(path, Golden({"text": Pairs([{"text": "a"}] * 3, {"dense": rows})}))
    back = Golden.read(Bundle.load(path)).towers["text"].outputs["dense"]
    for ours, theirs in zip(back, rows, strict=True):
        np.testing.assert_array_equal(ours, theirs)


SPACE: dict[str, Any] = {"space": "s", "dim": 8}
KINDS: dict[str, tuple[Output, tuple[int, ...], dict[str, float]]] = {
    "dense": (DenseOutput(tensor="t", normalized=False, **SPACE), (8,), {"cosine": 1, "max_abs": 0}),
    "multi_vector": (
        MultiVectorOutput(tensor="t", normalized=False, **SPACE),
        (5, 8),
        {"counts": 1, "cosine": 1, "max_abs": 0, "max_sim": 1},
    ),
    "sparse": (SparseOutput(tensor="t", top=3, **SPACE), (8,), {"support": 1, "cosine": 1}),
    "gaussian": (
        GaussianOutput(mean="m", log_variance="v", **SPACE),
        (2, 8),
        {"mean_max_abs": 0, "log_variance_max_abs": 0},
    ),
    "codes": (CodesOutput(tensor="t", **SPACE), (8,), {"counts": 1, "equal": 1}),
    "scores": (ScoresOutput(tensor="t", labels=("a", "b")), (2,), {"max_abs": 0}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_tells_the_same_from_others(kind: str) -> None:
    output, shape, same = KINDS[kind]
    rng = np.random.default_rng(0)
    theirs = (rng.random(shape) > 0.5).astype(np.uint8) if kind == "codes" else rng.standard_normal(shape)
    ours = np.where(theirs >= np.sort(theirs)[-3], theirs, 0).clip(0) if kind == "sparse" else theirs
    assert compare.compare(output, ours, theirs) == pytest.approx(same)
    others = 1 - ours if kind == "codes" else ours[..., ::-1] + 1
    for name, value in compare.compare(output, others, theirs).items():
        if name != "counts":
            assert abs(value - same[name]) > 0.01, name


@pytest.mark.parametrize("kind", ["multi_vector", "codes"])
def test_another_count_of_places_is_no_match(kind: str) -> None:
    output, _, _ = KINDS[kind]
    measured = compare.compare(output, np.ones((3, 8)), np.ones((4, 8)))
    assert measured["counts"] == 0
    assert all(value == 0 for name, value in measured.items() if name != "max_abs")
    assert measured.get("max_abs", np.inf) == np.inf


DENSE = KINDS["dense"][0]


def search(queries: np.ndarray, kind: str = "dense") -> np.ndarray:
    found = retrieval.scores(KINDS[kind][0], list(queries))
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["dense", "multi_vector", "sparse", "gaussian", "codes"])
def test_retrieval_of_equal_results_is_perfect_and_of_others_is_not(kind: str) -> None:
    _, shape, _ = KINDS[kind]
    rng = np.random.default_rng(0)
    rows, others = rng.standard_normal((2, 60, *shape)).astype(np.float32)
    if kind == "codes":
        rows, others = (rows > 0).astype(np.float32), (others > 0).astype(np.float32)
    same = retrieval.compare(search(rows, kind), search(rows, kind))
    assert same[0].min() == same[1].min() == 1
    recalls, agreements = retrieval.compare(search(rows, kind), search(others, kind))
    assert recalls.mean() < 0.7
    assert abs(agreements.mean()) < 0.3


def test_retrieval_between_towers_and_scores_that_know_none() -> None:
    queries, items = np.eye(8)[:3], np.eye(8)
    found = retrieval.scores(DENSE, list(queries), list(items))
    assert found is not None
    assert found.argmax(axis=1).tolist() == [0, 1, 2]
    assert retrieval.scores(KINDS["scores"][0], [np.ones(2)]) is None


def test_ties_of_the_original_are_no_misses() -> None:
    theirs = np.zeros((30, 30))
    ours = theirs + np.random.default_rng(0).uniform(0, 1e-7, theirs.shape)
    recalls, _ = retrieval.compare(theirs, ours)
    assert recalls.min() == 1

"""Verify: the golden pairs say whether a bundle gives the original's vectors on this device."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from embedge import Bundle, Embedder, manifest
from embedge.bundle import sha256
from embedge.errors import BundleError
from embedge.manifest import Certificate, Figure
from embedge.verify import Golden, retrieval, verify
from tests.tiny import tiny_bundle, words

LIMITS = {"finite": 1.0, "cosine_min": 0.99999, "max_abs": 1e-4, "recall_at_10": 0.99, "rank_agreement": 0.99}
LIMITS |= {f"{kind}_cosine": 0.99999 for kind in ("batch", "padding", "order")}
LIMITS |= {f"{kind}_max_abs": 1e-4 for kind in ("batch", "padding", "order")}


def proven(path: Path, golden: Golden | None = None) -> Path:
    """Give the bundle golden pairs (its own vectors, or `golden`) and a certificate with limits."""
    if golden is None:
        texts = [words(1 + number % 20, seed=number) for number in range(40)]
        with Embedder.open(path) as embedder:
            golden = Golden(texts, embedder.embed(texts, truncate=True))
    (path / "golden.npz").write_bytes(golden.to_bytes())
    figures = {
        name: Figure(value=0, limit=limit, better="lower" if name.endswith("max_abs") else "higher")
        for name, limit in LIMITS.items()
    }
    certificate = Certificate(figures=figures, items=0, corpus="", device="", backend="")
    known = Bundle.load(path, verify=False).manifest
    files = {**known.files, "golden.npz": sha256(path / "golden.npz")}
    changed = msgspec.structs.replace(known, files=files, golden="golden.npz", certificate=certificate)
    (path / manifest.FILE_NAME).write_bytes(manifest.encode(changed))
    return path


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_true_bundle_passes_every_figure(side: str, tmp_path: Path) -> None:
    certificate = verify(proven(tiny_bundle(tmp_path / "b", padding_side=side)))
    assert certificate.passed
    assert set(certificate.figures) == set(LIMITS)
    assert certificate.items == 40


def test_other_vectors_miss_and_name_the_input(tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"))
    golden = Golden.read(Bundle.load(path))
    vectors = golden.vectors.copy()
    vectors[7] = vectors[7][::-1]
    certificate = verify(proven(path, Golden(golden.texts, vectors)))
    assert not certificate.passed
    assert certificate.figures["cosine_min"].worst.startswith("#7 ")
    assert certificate.figures["max_abs"].worst.startswith("#7 ")
    assert certificate.figures["batch_cosine"].passed


def test_vectors_of_another_size_are_an_error(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="vectors of 16 numbers, the original gives 4"):
        verify(proven(path, Golden(["a cat"], np.ones((1, 4), np.float32))))


def test_a_bundle_without_certificate_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no certificate"):
        verify(tiny_bundle(tmp_path / "b"))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04 nonsense", Golden(["a", "b"], np.ones((1, 16), np.float32)).to_bytes()]
)
def test_unreadable_golden_pairs_are_refused(data: bytes, tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"))
    (path / "golden.npz").write_bytes(data)
    with pytest.raises(BundleError, match="export the bundle again"):
        Golden.read(Bundle.load(path, verify=False))


def archive(texts: object, vectors: object) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, texts=np.frombuffer(json.dumps(texts).encode(), np.uint8), vectors=np.asarray(vectors))
    return buffer.getvalue()


def lone_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((2, 16), np.float32))
    return buffer.getvalue()


_TRUE = np.ones((2, 16), np.float32)


@pytest.mark.parametrize(
    "data",
    [
        archive(["a", "b"], np.ones(2, np.float32)),
        archive(["a", "b"], np.ones((2, 4, 4), np.float32)),
        archive(["a", "b"], [["1"], ["2"]]),
        archive(["a", "b"], np.ones((2, 16), np.int64)),
        archive(["a", "b"], np.float32(1)),
        archive(7, _TRUE),
        archive("ab", _TRUE),
        archive({"a": 1, "b": 2}, _TRUE),
        archive(["a", 7], _TRUE),
        archive(["a"], _TRUE),
        archive([], np.ones((0, 16), np.float32)),
        lone_array(),
        archive(["a", "b"], _TRUE)[:-40],
    ],
    ids=range(13),
)
def test_golden_pairs_of_another_form_are_refused(data: bytes, tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"), Golden(["a cat"], np.ones((1, 16), np.float32)))
    (path / "golden.npz").write_bytes(data)
    with pytest.raises(BundleError, match=r"golden\.npz: .*export the bundle again"):
        Golden.read(Bundle.load(path, verify=False))


def test_pickles_among_golden_pairs_are_not_read(tmp_path: Path) -> None:
    path = proven(tiny_bundle(tmp_path / "b"))
    np.savez(path / "golden.npz", texts=np.array(["a", object()], dtype=object), vectors=np.ones((2, 16)))
    with pytest.raises(BundleError, match="golden pairs cannot be read"):
        Golden.read(Bundle.load(path, verify=False))


def test_retrieval_of_equal_vectors_is_perfect_and_of_others_is_not() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    same = retrieval.compare(retrieval.scores(vectors), retrieval.scores(vectors * 3))
    assert same[0].min() == same[1].min() == 1
    others = retrieval.scores(rng.standard_normal((60, 8)).astype(np.float32))
    recalls, agreements = retrieval.compare(retrieval.scores(vectors), others)
    assert recalls.mean() < 0.4
    assert abs(agreements.mean()) < 0.2


def test_ties_of_the_original_are_no_misses() -> None:
    theirs = np.zeros((30, 30))
    ours = theirs + np.random.default_rng(0).uniform(0, 1e-7, theirs.shape)
    recalls, _ = retrieval.compare(theirs, ours)
    assert recalls.min() == 1

"""The parity figure: it must notice a wrong vector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedge import Embedder
from embedge.errors import InvalidInput
from embedge_bench import parity
from embedge_bench.texts import Texts, load
from tests.tiny import tiny_bundle, words


@pytest.fixture
def texts(tmp_path: Path) -> Texts:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(words(1 + number % 20, seed=number) for number in range(60)), encoding="utf-8")
    return load(str(file))


def test_sample_reaches_from_the_shortest_to_the_longest(texts: Texts) -> None:
    sizes = [texts.sizes[place] for place in parity.sample(texts, 5)]
    assert (min(sizes), max(sizes), len(sizes)) == (1, 20, 5)


def test_right_vectors_have_cosine_one_and_a_wrong_one_shows(tmp_path: Path, texts: Texts) -> None:
    bundle = tiny_bundle(tmp_path / "tiny")
    reference = parity.from_bundle(str(bundle), texts)
    with Embedder.open(bundle) as embedder:
        vectors = embedder.embed(texts.texts)
    right = reference.parity(enumerate(vectors))
    assert right is not None
    assert (right.items, right.min_cosine) == (len(reference.vectors), pytest.approx(1.0, abs=1e-6))
    wrong = vectors.copy()
    wrong[min(reference.vectors)] *= -1
    noticed = reference.parity(enumerate(wrong))
    assert noticed is not None
    assert noticed.min_cosine == pytest.approx(-1.0, abs=1e-6)


@pytest.mark.parametrize("vector", [np.full(2, np.nan), np.zeros(2), np.ones(3)])
def test_vectors_that_are_none_count_as_the_worst(vector: np.ndarray) -> None:
    found = parity.Reference("r", {0: np.ones(2, np.float32)}).parity([(0, vector), (0, np.ones(2))])
    assert found is not None
    assert found.min_cosine == -1.0


def test_nothing_to_compare_is_no_parity() -> None:
    assert parity.Reference("r", {0: np.ones(2, np.float32)}).parity([(5, np.ones(2))]) is None


def test_reference_file_has_a_row_for_each_text(tmp_path: Path, texts: Texts) -> None:
    file = tmp_path / "right.npy"
    np.save(file, np.arange(120, dtype=np.float32).reshape(60, 2))
    reference = parity.from_file(file, texts)
    assert all(vector.tolist() == [2.0 * place, 2.0 * place + 1] for place, vector in reference.vectors.items())
    np.save(file, np.ones((59, 2)))
    with pytest.raises(InvalidInput, match=r"\(59, 2\).*needs \(60, dim\)"):
        parity.from_file(file, texts)
    file.write_text("not vectors")
    with pytest.raises(InvalidInput, match=r"right\.npy: not a NumPy file"):
        parity.from_file(file, texts)

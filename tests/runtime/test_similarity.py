"""Similarities against their plain definitions, a pair at a time."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import similarity as module
from embedge.errors import InvalidInput
from embedge.outputs import Codes, Gaussian, MultiVectors, Scores, Sparse, Vectors
from embedge.outputs.quantise import DTYPES, quantise
from embedge.outputs.ragged import offsets_of
from embedge.similarity import cosine, dot, expected_likelihood, hamming, max_sim, similarity, sparse_dot

sizes = st.integers(0, 5)
seeds = st.integers(0, 1 << 16)
Floats = NDArray[np.float32]


def normal(seed: int, *shape: int) -> Floats:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def vectors(seed: int, count: int, dim: int = 16, dtype: Any = "float32") -> Vectors:
    values, scales = quantise(normal(seed, count, dim), dtype)
    return Vectors(values, "s", dtype, scales)


def multi(seed: int, counts: list[int], dtype: Any = "float32") -> MultiVectors:
    values, scales = quantise(normal(seed, sum(counts), 8), dtype)
    return MultiVectors(values, offsets_of(np.array(counts, np.int64)), "s", dtype, scales)


def sparse(seed: int, count: int, size: int = 12) -> Sparse:
    weights = np.maximum(normal(seed, count, size), 0)
    rows, indices = np.nonzero(weights)
    offsets = offsets_of(np.bincount(rows, minlength=count).astype(np.int64))
    return Sparse(indices.astype(np.int32), weights[weights > 0], offsets, "s", size)


def gaussian(seed: int, count: int, dim: int = 3) -> Gaussian:
    return Gaussian(normal(seed, count, dim), normal(seed + 1, count, dim), "s")


def pairs(found: NDArray[Any], plain: Callable[[int, int], float], n: int, m: int, tolerance: float = 1e-4) -> None:
    """Hold every number of a matrix against a plain function of its two rows."""
    assert found.shape == (n, m)
    for i in range(n):
        for j in range(m):
            assert found[i, j] == pytest.approx(plain(i, j), rel=tolerance, abs=tolerance)


def meaning(rows: Vectors, row: int) -> list[float]:
    """Return the numbers that a row stands for."""
    if rows.dtype == "ubinary":
        return [1.0 if int(byte) >> (7 - bit) & 1 else -1.0 for byte in rows[row] for bit in range(8)]
    scale = 1.0 if rows.scales is None else float(rows.scales[row])
    return [float(number) * scale for number in rows[row]]


@given(sizes, sizes, seeds, st.sampled_from(DTYPES), st.sampled_from(DTYPES))
def test_dot_and_cosine_of_any_two_dtypes(n: int, m: int, seed: int, one: str, other: str) -> None:
    queries, documents = vectors(seed, n, dtype=one), vectors(seed + 1, m, dtype=other)

    def plain(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(meaning(queries, i), meaning(documents, j), strict=True))

    def length(rows: Vectors, row: int) -> float:
        return math.sqrt(sum(number**2 for number in meaning(rows, row)))

    pairs(dot(queries, documents), plain, n, m)
    pairs(cosine(queries, documents), lambda i, j: plain(i, j) / length(queries, i) / length(documents, j), n, m)


@given(sizes, sizes, seeds, st.integers(1, 20))
def test_hamming_is_the_number_of_bits_that_differ(n: int, m: int, seed: int, width: int) -> None:
    random = np.random.default_rng(seed)
    queries, documents = (random.integers(0, 256, (count, width), np.uint8) for count in (n, m))

    def plain(i: int, j: int) -> int:
        return sum((int(a) ^ int(b)).bit_count() for a, b in zip(queries[i], documents[j], strict=True))

    pairs(hamming(queries, documents), plain, n, m, 0)
    pairs(similarity(queries, documents), lambda i, j: 1 - 2 * plain(i, j) / (8 * width), n, m)
    np.testing.assert_array_equal(hamming(Codes(queries, "s"), documents), hamming(queries, documents))


def test_bits_are_counted_without_numpys_own_count(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, documents = vectors(0, 5, 72, "ubinary"), vectors(1, 4, 72, "ubinary")
    expected = hamming(queries, documents)
    monkeypatch.setattr(module, "_ones", module._ones_by_table)
    np.testing.assert_array_equal(hamming(queries, documents), expected)


counts = st.lists(st.integers(0, 4), max_size=6)


@given(counts, counts, seeds, st.sampled_from([1, 3, 1 << 24]), st.sampled_from(DTYPES))
def test_max_sim_is_the_sum_of_each_vectors_best(
    ours: list[int], theirs: list[int], seed: int, block: int, dtype: str
) -> None:
    queries, documents = multi(seed, ours, dtype), multi(seed + 1, theirs, dtype)
    ours_, theirs_ = (
        [
            [
                meaning(
                    Vectors(rows[i], "s", rows.dtype, None if rows.scales is None else rows.scales[rows.offsets[i] :]),
                    j,
                )
                for j in range(len(rows[i]))
            ]
            for i in range(len(rows))
        ]
        for rows in (queries, documents)
    )

    def plain(i: int, j: int) -> float:
        if not theirs_[j]:
            return 0.0
        return sum(max(sum(a * b for a, b in zip(x, y, strict=True)) for y in theirs_[j]) for x in ours_[i])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_QUERY_VECTORS", min(block, module._QUERY_VECTORS))
        patch.setattr(module, "_BLOCK", block)
        pairs(max_sim(queries, documents), plain, len(ours), len(theirs))


def test_max_sim_takes_arrays() -> None:
    queries, documents = multi(0, [2, 1]), multi(1, [3, 2, 2])
    expected = max_sim(queries, documents)
    np.testing.assert_array_equal(max_sim([queries[0], queries[1]], [documents[i] for i in range(3)]), expected)
    np.testing.assert_array_equal(similarity(normal(0, 4, 3, 8), normal(1, 2, 5, 8)).shape, (4, 2))


@given(sizes, sizes, seeds, st.sampled_from([1, 20, 1 << 24]))
def test_sparse_dot(n: int, m: int, seed: int, block: int) -> None:
    queries, documents = sparse(seed, n), sparse(seed + 1, m)

    def plain(i: int, j: int) -> float:
        ours, theirs = (
            dict(zip(*(part.tolist() for part in rows), strict=True)) for rows in (queries[i], documents[j])
        )
        return sum(weight * theirs.get(entry, 0.0) for entry, weight in ours.items())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        pairs(sparse_dot(queries, documents), plain, n, m)


@given(sizes, sizes, seeds, st.sampled_from([1, 1 << 24]))
def test_expected_likelihood_is_the_density_of_the_difference(n: int, m: int, seed: int, block: int) -> None:
    queries, documents = gaussian(seed, n), gaussian(seed + 9, m)

    def plain(i: int, j: int) -> float:
        (mean, spread), (means, spreads) = queries[i], documents[j]
        variances = [math.exp(s) + math.exp(t) for s, t in zip(spread, spreads, strict=True)]
        squares = [(float(a) - float(b)) ** 2 for a, b in zip(mean, means, strict=True)]
        logs = [-q / (2 * v) - math.log(math.sqrt(2 * math.pi * v)) for q, v in zip(squares, variances, strict=True)]
        return sum(logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_NEAR", block)
        pairs(expected_likelihood(queries, documents), plain, n, m)


def test_expected_likelihood_is_the_integral_of_the_product() -> None:
    one, other = (
        Gaussian(np.array([[0.3]]), np.array([[-0.5]]), "s"),
        Gaussian(np.array([[-0.4]]), np.array([[0.7]]), "s"),
    )
    points = np.linspace(-20, 20, 200_001)

    def density(rows: Gaussian) -> NDArray[np.float64]:
        mean, variance = float(rows.mean[0, 0]), math.exp(float(rows.log_variance[0, 0]))
        return np.exp(-((points - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)

    integral = float((density(one) * density(other)).sum() * (points[1] - points[0]))
    assert expected_likelihood(one, other)[0, 0] == pytest.approx(math.log(integral), rel=1e-6)


def test_distributions_of_any_width_give_finite_logarithms_where_there_are_any() -> None:
    wide = Gaussian(np.array([[0.0], [5.0]]), np.array([[-600.0], [900.0]]), "s")
    found = expected_likelihood(wide, wide)
    assert found[0, 0] == pytest.approx(0.5 * (600 - math.log(2) - math.log(2 * math.pi)))
    assert np.isfinite(found[:, 1]).all()
    assert (found[0, 1], found[1, 0]) == (found[1, 0], found[0, 1])


@pytest.mark.parametrize(
    ("one", "other", "function"),
    [
        (vectors(0, 3), vectors(1, 2, dtype="int8"), cosine),
        (normal(0, 3, 4), normal(1, 2, 4), cosine),
        (multi(0, [1, 2, 3]), multi(1, [2, 2]), max_sim),
        (sparse(0, 3), sparse(1, 2), sparse_dot),
        (gaussian(0, 3), gaussian(1, 2), expected_likelihood),
        ((normal(0, 3, 4), normal(1, 3, 4)), (normal(2, 2, 4), normal(3, 2, 4)), expected_likelihood),
    ],
)
def test_similarity_is_by_kind(one: Any, other: Any, function: Any) -> None:
    np.testing.assert_array_equal(similarity(one, other), function(one, other))


def test_packed_bits_are_as_near_as_their_signs() -> None:
    one, other = vectors(0, 3, 24, "ubinary"), vectors(1, 2, 24, "ubinary")
    np.testing.assert_allclose(similarity(one, other), cosine(one, other), atol=1e-6)


FAR = Vectors(normal(0, 2, 16), "elsewhere")


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (vectors(0, 2), FAR, "spaces 's' and 'elsewhere' cannot be compared; embed both sides with the same model"),
        (vectors(0, 2), vectors(0, 2, 8), "rows of 16 and of 8 numbers cannot be compared; ask for the same dim"),
        (vectors(0, 2), vectors(0, 2, dtype="ubinary"), "vectors and packed bits cannot be compared"),
        (vectors(0, 2), sparse(0, 2), "vectors and sparse weights cannot be compared; ask for the same output"),
        (sparse(0, 2), sparse(0, 2, 9), "vocabularies of 12 and of 9 entries cannot be compared"),
        (gaussian(0, 2), gaussian(0, 2, 4), "rows of 3 and of 4 numbers cannot be compared"),
        (normal(0, 2, 4), normal(0, 2, 5), "rows of 4 and of 5 numbers cannot be compared"),
        (
            Codes(np.zeros((2, 4), np.int32), "s", "integers"),
            Codes(np.zeros((2, 4), np.int32), "s", "integers"),
            "codes",
        ),
        (Scores(normal(0, 2, 1), ("a",)), Scores(normal(0, 2, 1), ("a",)), "rows of type Scores have no similarity"),
        ([normal(0, 3)], [normal(0, 3)], r"as an array of shape \(n, dim\), not \(3,\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(one: Any, other: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        similarity(one, other)


@pytest.mark.parametrize("function", [dot, cosine, hamming, max_sim, sparse_dot, expected_likelihood])
def test_every_function_refuses_another_space(function: Any) -> None:
    made = {hamming: vectors(0, 2, dtype="ubinary"), max_sim: multi(0, [1]), sparse_dot: sparse(0, 1)}
    rows = {**made, expected_likelihood: gaussian(0, 1)}.get(function, vectors(0, 2))
    with pytest.raises(InvalidInput, match="'elsewhere'"):
        function(rows, FAR)


def test_hamming_of_what_is_not_packed_is_refused() -> None:
    with pytest.raises(InvalidInput, match="packed bits are needed"):
        hamming(vectors(0, 2), vectors(0, 2))


def test_it_needs_numpy_only() -> None:
    code = (
        "import sys, embedge.similarity\n"
        "heavy = {'tokenizers', 'onnxruntime', 'grpc'} & set(sys.modules)\n"
        "raise SystemExit(f'imports {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Every kind of output against its plain definition: what is kept, in which order, and in which form."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import outputs
from embedge.bundle.output_specs import CodesOutput, Output
from embedge.outputs import Codes, Gaussian, MultiVectors, Scores, Sparse, Vectors
from embedge.outputs.base import Tensors
from tests.runtime.specs import ALL, DENSE, DIM, GAUSSIAN, MULTI, SCORES, SPARSE, batch


def collected(output: Output, count: int, *pieces: tuple[list[int], Tensors], **options: object) -> outputs.Result:
    dim, dtype, pool = (options.get(name) for name in ("dim", "dtype", "pool"))
    size = outputs.check(output, dim, dtype or "float32", pool, name="o")  # type: ignore[arg-type]
    collector = outputs.collector(output, count, dim=size, dtype=dtype or "float32", pool=pool)  # type: ignore[arg-type]
    for indices, tensors in pieces:
        collector.add(indices, tensors)
    return collector.finish()


def rows_of(tensors: Tensors) -> Iterator[dict[str, NDArray[np.generic]]]:
    for row in range(len(tensors["dense"])):
        yield {name: array[row] for name, array in tensors.items()}


# What a result must say of one item, from the graph's row.


def plain(kind: str, row: Tensors) -> object:
    if kind == "multi":
        return row["multi"][row["keep"] != 0]
    if kind == "codes":
        return row["codes"][row["keep"] != 0]
    if kind == "sparse":
        order = sorted(range(DIM), key=lambda place: (-row["sparse"][place], place))[:3]
        kept = sorted(place for place in order if row["sparse"][place] > 0)
        return kept, row["sparse"][kept]
    if kind == "gaussian":
        return row["mean"], row["log_variance"]
    if kind == "bits":
        return [int("".join("1" if number > 0 else "0" for number in row["bits"]), 2)]
    if kind == "scores":
        return [(label, float(score)) for label, score in zip(SCORES.labels, row["scores"], strict=True)]
    return row["multi" if kind == "whole" else kind]


def same(found: object, expected: object) -> None:
    if isinstance(expected, tuple):
        assert isinstance(found, tuple)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
    elif isinstance(expected, list) and expected and isinstance(expected[0], tuple):
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 5)), min_size=1, max_size=4), st.randoms())
def test_rows_come_in_any_order_and_leave_in_the_items_order(
    kind: str, sizes: list[tuple[int, int]], random: object
) -> None:
    count = sum(rows for rows, _ in sizes) + 1  # one item never comes
    places = list(range(count))
    random.shuffle(places)  # type: ignore[attr-defined]
    pieces, expected = [], {}
    for number, (rows, width) in enumerate(sizes):
        tensors = batch(rows, width, seed=number)
        indices, places = places[:rows], places[rows:]
        pieces.append((indices, tensors))
        expected |= {index: plain(kind, row) for index, row in zip(indices, rows_of(tensors), strict=True)}

    result = collected(ALL[kind], count, *pieces)

    assert result.kind == type(ALL[kind]).__struct_config__.tag
    assert len(result) == count
    for index, row in expected.items():
        same(result[index], row)
    (missing,) = places
    for array in result[missing] if isinstance(result[missing], tuple) else [result[missing]]:
        assert isinstance(result, Scores) or not np.any(array)
    assert not isinstance(result, (MultiVectors, Sparse)) or result.offsets[missing] == result.offsets[missing + 1]


@pytest.mark.parametrize("kind", ALL)
def test_parts_are_joined_and_rows_are_taken(kind: str) -> None:
    first, second = batch(3, 4), batch(2, 5)
    one, two = collected(ALL[kind], 3, ([0, 1, 2], first)), collected(ALL[kind], 2, ([0, 1], second))

    joined = one.join(two)  # type: ignore[arg-type]
    taken = joined.take([4, 0, 0])

    assert len(joined) == 5
    for place, row in enumerate([*rows_of(first), *rows_of(second)]):
        same(joined[place], plain(kind, row))
    assert len(taken) == 3
    for place, source in enumerate([4, 0, 0]):
        same(taken[place], joined[source])
    same(joined[-1], joined[4])
    with pytest.raises(IndexError):
        joined[5]
    assert len(joined.take([])) == 0


@pytest.mark.parametrize("kind", ALL)
def test_no_items_are_no_rows(kind: str) -> None:
    assert len(collected(ALL[kind], 0)) == 0
    assert len(collected(ALL[kind], 2)) == 2


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 6), st.booleans())
def test_pooling_is_the_mean_of_neighbours(counts: list[int], pool: int, cut: bool) -> None:
    random = np.random.default_rng(counts)
    width = max(counts) or 1
    keep = np.arange(width) < np.array(counts)[:, None]
    multi = random.normal(size=(len(counts), width, DIM)).astype(np.float32)
    dim = 4 if cut else DIM

    result = collected(
        MULTI, len(counts), (list(range(len(counts))), {"multi": multi, "keep": keep}), pool=pool, dim=dim
    )

    for index, count in enumerate(counts):
        vectors = multi[index, :count, :dim].astype(np.float64)
        groups: dict[int, list[NDArray[np.float64]]] = {}
        for place, vector in enumerate(vectors):
            groups.setdefault(place * min(pool, count) // count, []).append(vector)
        assert len(result[index]) == len(groups) == min(pool, count)
        for found, group in zip(result[index], groups.values(), strict=True):
            mean = np.mean(group, axis=0)
            scaled = mean / np.linalg.norm(mean) if cut or len(group) > 1 else mean
            np.testing.assert_allclose(found, scaled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "int8", "ubinary"])
def test_a_token_vector_is_quantised_as_a_dense_one_is(dtype: str) -> None:
    tensors = batch(3, 4)
    kept = tensors["multi"][tensors["keep"] != 0]

    multi = collected(MULTI, 3, ([0, 1, 2], tensors), dtype=dtype)
    dense = collected(DENSE, len(kept), (list(range(len(kept))), {"dense": kept}), dtype=dtype)

    assert isinstance(multi, MultiVectors)
    assert isinstance(dense, Vectors)
    assert multi.dtype == dense.dtype == dtype
    np.testing.assert_array_equal(multi.values, dense.values)
    np.testing.assert_array_equal(multi.scales, dense.scales)  # type: ignore[arg-type]


def test_float16() -> None:
    tensors = batch(2, 3)
    gaussian = collected(GAUSSIAN, 2, ([0, 1], tensors), dtype="float16")
    sparse = collected(SPARSE, 2, ([0, 1], tensors), dtype="float16")
    assert isinstance(gaussian, Gaussian)
    assert gaussian.mean.dtype == gaussian.log_variance.dtype == np.float16
    assert isinstance(sparse, Sparse)
    assert sparse.dtype == "float16"


def test_bits_are_packed_for_each_place_too() -> None:
    output = CodesOutput(tensor="multi", keep="keep", space="s", dim=DIM)
    tensors = batch(2, 3)

    result = collected(output, 2, ([1, 0], tensors))

    assert isinstance(result, Codes)
    assert (result.form, result.dtype) == ("bits", "ubinary")
    np.testing.assert_array_equal(result[1], np.packbits(tensors["multi"][0][tensors["keep"][0] != 0] > 0, axis=1))


def test_the_best_labels_come_first_and_of_equal_ones_the_earlier() -> None:
    scores = Scores(np.array([[0.25, 0.5, 0.25], [1, 0, 2]], np.float32), SCORES.labels)

    best = scores.best(2)

    assert best[0] == [("dog", 0.5), ("cat", 0.25)]
    assert best[1] == [("bird", 2.0), ("cat", 1.0)]
    assert best.best(1)[1] == [("bird", 2.0)]
    assert len(scores.best(9)[0]) == 3

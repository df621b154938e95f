"""Every kind of output against its plain definition: what is good, what is kept, what is refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import outputs
from embedge.errors import BundleError, InvalidInput
from embedge.kinds import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.outputs import Codes, Gaussian, MultiVectors, Scores, Sparse, Vectors
from embedge.outputs.base import Tensors

DIM = 8
DENSE = DenseOutput(tensor="dense", space="s", dim=DIM, normalized=True)
MULTI = MultiVectorOutput(tensor="multi", keep="keep", space="s", dim=DIM, normalized=True, dims=(4,))
WHOLE = MultiVectorOutput(tensor="multi", space="s", dim=DIM, normalized=True)
SPARSE = SparseOutput(tensor="sparse", space="s", dim=DIM, top=3)
GAUSSIAN = GaussianOutput(mean="mean", log_variance="log_variance", space="s", dim=DIM)
BITS = CodesOutput(tensor="bits", space="s", dim=DIM)
CODES = CodesOutput(tensor="codes", keep="keep", form="integers", space="s", dim=DIM)
SCORES = ScoresOutput(tensor="scores", labels=("cat", "dog", "bird"))
ALL: dict[str, Output] = {
    "dense": DENSE,
    "multi": MULTI,
    "whole": WHOLE,
    "sparse": SPARSE,
    "gaussian": GAUSSIAN,
    "bits": BITS,
    "codes": CODES,
    "scores": SCORES,
}


def batch(rows: int, width: int, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Return what a graph with all the outputs gives for a batch: junk where `keep` is 0."""
    random = np.random.default_rng([seed, rows, width])
    keep = random.integers(0, 2, (rows, width))
    multi = random.normal(size=(rows, width, DIM)).astype(np.float32)
    multi /= np.linalg.norm(multi, axis=2, keepdims=True)
    multi[keep == 0] = np.nan
    # Few different weights, so that some are equal.
    sparse = np.maximum(random.integers(-3, 4, (rows, DIM)), 0).astype(np.float32) / 2
    return {
        "dense": random.normal(size=(rows, DIM)).astype(np.float32),
        "multi": multi,
        "keep": keep,
        "sparse": sparse,
        "mean": random.normal(size=(rows, DIM)).astype(np.float32),
        "log_variance": random.normal(size=(rows, DIM)).astype(np.float32),
        "bits": random.normal(size=(rows, DIM)).astype(np.float32),
        "codes": random.integers(0, 1024, (rows, width, DIM)),
        "scores": random.normal(size=(rows, 3)).astype(np.float32),
    }


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


# What the lane guards.


@pytest.mark.parametrize(
    ("array", "good"),
    [
        ([[1.0, 2.0], [3.0, 4.0]], [True, True]),
        ([[1.0, np.inf], [3.0, 4.0]], [False, True]),
        ([[1.0, -np.inf], [np.inf, -np.inf]], [False, False]),
        ([[0.0, 0.0], [0.0, -1e-30]], [False, True]),
        ([[np.nan, 1.0], [1.0, 1.0]], [False, True]),
        ([[3e38, 3e38], [3e38, -3e38]], [True, True]),
    ],
)
def test_a_dense_row_is_good_if_it_is_finite_and_not_zero(array: list[list[float]], good: list[bool]) -> None:
    values = np.array(array, np.float32)
    zero_is_fine = [bool(np.isfinite(row).all()) for row in values]

    def judged(output: Output, *names: str, shape: tuple[int, ...] = (2, 2)) -> list[bool]:
        return outputs.good([output], dict.fromkeys(names, values.reshape(shape)), 2).tolist()

    assert judged(DenseOutput(tensor="t", space="s", dim=2, normalized=True), "t") == good
    assert judged(MultiVectorOutput(tensor="t", space="s", dim=1, normalized=True), "t", shape=(2, 2, 1)) == good
    assert judged(SparseOutput(tensor="t", space="s", dim=2), "t") == zero_is_fine
    assert judged(GaussianOutput(mean="t", log_variance="t", space="s", dim=2), "t") == zero_is_fine
    assert judged(CodesOutput(tensor="t", space="s", dim=2), "t") == zero_is_fine
    assert judged(ScoresOutput(tensor="t", labels=("a", "b")), "t") == zero_is_fine


def test_what_is_not_kept_may_be_anything_and_an_item_may_keep_nothing() -> None:
    tensors = {
        "multi": np.array([[[np.nan] * DIM, [1.0] * DIM], [[np.inf] * DIM] * 2, [[1.0] * DIM, [np.nan] * DIM]]),
        "keep": np.array([[0, 1], [0, 0], [1, 1]]),
        "codes": np.array([[[1 << 40] * DIM, [1] * DIM], [[-1] * DIM] * 2, [[1] * DIM, [1 << 31] * DIM]]),
    }
    assert outputs.good([MULTI], tensors, 3).tolist() == [True, True, False]
    assert outputs.good([CODES], tensors, 3).tolist() == [True, True, False]


def test_a_row_is_good_if_all_its_outputs_are() -> None:
    tensors = batch(3, 4)
    tensors["dense"][0] = 0  # type: ignore[call-overload]
    tensors["mean"][2, 1] = np.nan  # type: ignore[call-overload]
    assert outputs.good(ALL.values(), tensors, 3).tolist() == [False, False, False]
    assert outputs.good([DENSE, GAUSSIAN, SCORES], tensors, 3).tolist() == [False, True, False]


# What a lane's self-test looks at.


@pytest.mark.parametrize("kind", ALL)
def test_what_a_graph_gives_fits(kind: str) -> None:
    outputs.fits(ALL[kind], batch(2, 3), 2, name=kind)


@pytest.mark.parametrize(
    ("kind", "tensor", "array", "message"),
    [
        ("dense", "dense", np.zeros((2, 7), np.float32), r"'o' should be floats of shape \(2, 8\) and is float32 of"),
        (
            "dense",
            "dense",
            np.zeros((2, 8), np.int64),
            r"should be floats of shape \(2, 8\) and is int64 of shape \(2, 8\)",
        ),
        ("dense", "dense", np.zeros((3, 8), np.float32), r"and is float32 of shape \(3, 8\)"),
        ("multi", "multi", np.zeros((2, 8), np.float32), r"should be floats of shape \(2, places, 8\)"),
        (
            "multi",
            "keep",
            np.zeros((2, 4), np.int64),
            r"should be integers of shape \(2, 3\) and is int64 of shape \(2, 4\)",
        ),
        ("multi", "keep", np.zeros((2, 3), np.float32), r"should be integers"),
        ("codes", "codes", np.zeros((2, 3, 8), np.float32), r"should be integers"),
        ("bits", "bits", np.zeros((2, 8), np.complex64), r"should be numbers"),
        ("gaussian", "log_variance", np.zeros((2, 1), np.float32), r"should be floats of shape \(2, 8\)"),
        ("scores", "scores", np.zeros((2, 4), np.float32), r"should be floats of shape \(2, 3\)"),
    ],
)
def test_a_graph_that_is_not_what_the_manifest_says_is_refused(
    kind: str, tensor: str, array: NDArray[np.generic], message: str
) -> None:
    with pytest.raises(BundleError, match=f"the graph is not what the manifest says: output .*{message}"):
        outputs.fits(ALL[kind], {**batch(2, 3), tensor: array}, 2, name="o")


# What may be asked for.


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("multi", {"dim": 5}, "dim 5 was not trained for: output 'o' may be cut to 4"),
        ("multi", {"pool": 0}, "pool 0 is not possible: ask for 1 vector an item or more"),
        ("multi", {"pool": 1.5}, "pool 1.5 is not possible"),
        ("multi", {"dim": 4, "dtype": "ubinary"}, "dim 4 does not fill whole bytes"),
        ("dense", {"pool": 4}, "pool is not possible: output 'o' has not many vectors an item; leave pool out"),
        ("sparse", {"dim": 4}, "dim 4 is not possible: output 'o' has a weight for each entry of a vocabulary"),
        ("sparse", {"dtype": "int8"}, "dtype 'int8' is not possible: .* choose one of float32, float16"),
        ("gaussian", {"dtype": "ubinary"}, "dtype 'ubinary' is not possible: output 'o' has variances"),
        ("gaussian", {"dim": 4}, "dim 4 is not possible: output 'o' has distributions of 8 dimensions; leave dim out"),
        ("bits", {"dtype": "float16"}, "output 'o' has codes, which are bits whatever the dtype"),
        ("codes", {"dtype": "ubinary"}, "output 'o' has codes, which are integers whatever the dtype"),
        ("codes", {"dim": 4}, "dim 4 is not possible: output 'o' has codes, of which a part means nothing"),
        ("scores", {"dim": 2}, "dim 2 is not possible: output 'o' has a number for each label; leave dim out"),
        ("scores", {"dtype": "int8"}, "dtype 'int8' is not possible: output 'o' has scores"),
        ("scores", {"dtype": "int32"}, "dtype 'int32' is unknown; choose one of float32, float16, int8, ubinary"),
    ],
)
def test_what_a_kind_cannot_be_is_refused(kind: str, options: dict[str, object], message: str) -> None:
    asked = {"dim": None, "dtype": "float32", "pool": None, **options}
    with pytest.raises(InvalidInput, match=message):
        outputs.check(ALL[kind], *asked.values(), name="o")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ALL)
def test_the_whole_of_every_kind_may_be_asked_for(kind: str) -> None:
    size = outputs.check(ALL[kind], None, "float32", name="o")
    assert outputs.check(ALL[kind], size, "float32", name="o") == size

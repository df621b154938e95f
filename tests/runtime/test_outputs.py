"""Typed results against plain NumPy, written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from embedge.bundle.output_specs import DenseOutput
from embedge.errors import InvalidInput
from embedge.outputs import DTYPES, check, finish, normalize

DIM = 16


def output(*, normalized: bool = True, dims: tuple[int, ...] = ()) -> DenseOutput:
    return DenseOutput(tensor="dense", space="s", dim=DIM, normalized=normalized, dims=dims)


Raw = NDArray[np.float32]
raws = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.just(DIM)),
    elements=st.floats(-100, 100, width=32).map(lambda number: 0.0 if abs(number) < 1e-6 else number),
)


@given(raws, st.integers(1, DIM - 1))
def test_cut_vectors_have_length_one_again(raw: Raw, dim: int) -> None:
    values = finish(raw, output(), dim=dim, dtype="float32").values

    for row, cut in zip(raw, values, strict=True):
        norm = float(np.sqrt(sum(float(x) ** 2 for x in row[:dim])))
        expected = row[:dim] / norm if norm else np.zeros(dim)
        np.testing.assert_allclose(cut, expected, rtol=1e-4, atol=1e-6)


@given(raws, st.integers(1, DIM))
def test_an_output_that_is_not_normalised_is_only_cut(raw: Raw, dim: int) -> None:
    values = finish(raw, output(normalized=False), dim=dim, dtype="float32").values

    np.testing.assert_array_equal(values, raw[:, :dim])


@given(raws)
def test_the_full_size_is_left_as_the_graph_made_it(raw: Raw) -> None:
    np.testing.assert_array_equal(finish(raw, output(), dim=DIM, dtype="float32").values, raw)


@given(raws)
def test_int8_gives_back_every_number_within_half_a_step(raw: Raw) -> None:
    vectors = finish(raw, output(), dim=DIM, dtype="int8")

    assert vectors.values.dtype == np.int8
    assert vectors.scales is not None
    assert vectors.scales.shape == (len(raw),)
    for row, stored, scale in zip(raw, vectors.values, vectors.scales, strict=True):
        assert np.abs(stored.astype(np.float64) * scale - row).max() <= scale * 0.5001
        peak = np.abs(row).max()
        assert np.abs(stored).max() == (127 if peak else 0)


@given(raws, st.sampled_from([8, 16]))
def test_ubinary_is_the_signs_first_number_in_the_high_bit(raw: Raw, dim: int) -> None:
    vectors = finish(raw, output(), dim=dim, dtype="ubinary")

    assert vectors.values.dtype == np.uint8
    assert vectors.values.shape == (len(raw), dim // 8)
    for row, packed in zip(raw, vectors.values, strict=True):
        for place in range(dim):
            bit = packed[place // 8] >> (7 - place % 8) & 1
            assert bit == (row[place] > 0)


def test_quantisation_comes_after_cutting() -> None:
    raw = np.array([[0.1, -0.2] + [100.0] * (DIM - 2)], np.float32)

    vectors = finish(raw, output(), dim=2, dtype="int8")

    np.testing.assert_array_equal(vectors.values, [[64, -127]])


def test_float16() -> None:
    raw = np.linspace(-1, 1, DIM, dtype=np.float32)[None]

    values = finish(raw, output(), dim=DIM, dtype="float16").values

    np.testing.assert_array_equal(values, raw.astype(np.float16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows_are_no_rows(dtype: str) -> None:
    vectors = finish(np.zeros((0, DIM), np.float32), output(), dim=8, dtype=dtype)  # type: ignore[arg-type]

    assert vectors.values.shape == (0, 1 if dtype == "ubinary" else 8)


def test_a_zero_row_stays_zero_and_makes_no_noise() -> None:
    zeros = np.zeros((1, DIM), np.float32)

    assert not normalize(zeros).any()
    for dtype in DTYPES:
        assert not finish(zeros, output(), dim=8, dtype=dtype).values.any()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dim", "dtype", "dims", "message"),
    [
        (0, "float32", (), "dim 0 is not possible: output 'dense' has 16; ask for 1 to 16"),
        (-1, "float32", (), "dim -1 is not possible"),
        (17, "float32", (), "dim 17 is not possible"),
        (7, "float32", (4, 8), "dim 7 was not trained for: output 'dense' may be cut to 4, 8"),
        (12, "ubinary", (), "dim 12 does not fill whole bytes; dtype 'ubinary' needs a multiple of 8"),
        (None, "float64", (), "dtype 'float64' is unknown; choose one of float32, float16, int8, ubinary"),
    ],
)
def test_what_cannot_be_is_refused(dim: int | None, dtype: str, dims: tuple[int, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check(output(dims=dims), dim, dtype, name="dense")


@pytest.mark.parametrize(("dim", "dims", "size"), [(None, (), 16), (16, (4, 8), 16), (4, (4, 8), 4), (1, (), 1)])
def test_what_can_be_is_told_its_size(dim: int | None, dims: tuple[int, ...], size: int) -> None:
    assert check(output(dims=dims), dim, "float32", name="dense") == size


@pytest.mark.parametrize("dim", ["8", 2.0, [4]])
def test_a_dim_that_is_no_whole_number_is_refused(dim: object) -> None:
    with pytest.raises(InvalidInput, match="is not a whole number"):
        check(output(), dim, "float32", name="dense")  # type: ignore[arg-type]


def test_a_dim_may_be_numpys() -> None:
    assert check(output(), np.int64(4), "float32", name="dense") == 4  # type: ignore[arg-type]


def test_what_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(InvalidInput, match="float16"):
        finish(np.full((1, 16), 1e5, np.float32), output(normalized=False), dim=16, dtype="float16")


def test_int8_of_tiny_numbers_is_finite() -> None:
    vectors = finish(np.full((1, 16), 1e-44, np.float32), output(normalized=False), dim=16, dtype="int8")
    assert vectors.scales is not None
    assert np.isfinite(vectors.values * vectors.scales[:, None]).all()

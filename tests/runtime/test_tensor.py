"""Tensor parts: right arrays come through as they are, wrong ones fail alone and say why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from embedge.bundle.part_specs import FarthestPoints, Resample, TensorPrepare
from embedge.config import RuntimeConfig
from embedge.errors import InvalidInput
from embedge.inputs.tensor import TensorInput
from embedge.request import Request

REQUEST = Request(items=[])


def part(shape: tuple[int | str, ...], **options: Any) -> TensorInput:
    inputs = {"values": "x", **options.pop("inputs", {})}
    return TensorInput(TensorPrepare(inputs=inputs, shape=shape, **options), RuntimeConfig(), Path)


def row(tensor: TensorInput, content: object) -> NDArray[Any]:
    (found,) = tensor.prepare([content], REQUEST)
    assert not isinstance(found, InvalidInput), found
    return found["x"]


def fault(tensor: TensorInput, content: object) -> str:
    (found,) = tensor.prepare([content], REQUEST)
    assert isinstance(found, InvalidInput)
    return found.message


def points(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


def reversed_rows(array: NDArray[Any]) -> NDArray[Any]:
    return array[::-1].copy()[::-1]


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


class Stubborn:
    """An object that looks like an array and raises when it is asked for its numbers."""

    shape, nbytes = ("many",), None

    def __array__(self, *_: object, **__: object) -> NDArray[Any]:
        raise RuntimeError("no numbers today")


FORMS = {
    "plain": np.copy,
    "column by column": np.asfortranarray,
    "from back to front": reversed_rows,
    "every other one": lambda array: np.repeat(array, 2, axis=-1)[..., ::2],
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "read-only": read_only,
    "float64": lambda array: array.astype(np.float64),
    "a matrix": lambda array: array.view(np.matrix),
    "masked, but nothing is": np.ma.masked_array,
    "a list": lambda array: array.tolist(),
    "a list of arrays": list,
}


@pytest.mark.parametrize("form", FORMS)
def test_however_an_array_lies_in_memory_its_numbers_come_through(form: str) -> None:
    array = points(5)
    found = row(part(("points", 3)), FORMS[form](array))
    assert type(found) is np.ndarray
    assert found.dtype == np.dtype("float32")
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array)


def test_one_number_is_a_tensor_of_no_axis() -> None:
    tensor = part((), minimum=0)
    for content in (3, 3.0, np.float64(3), np.array(3, dtype=">i2")):
        assert row(tensor, content) == np.float32(3)
    assert fault(tensor, -1.5) == "the number here is -1.5, this part takes 0.0 to 3.4028235e+38"


def test_a_row_is_a_copy() -> None:
    array = points(4)
    found = row(part(("points", 3)), array)
    before = found.copy()
    array[:] = 0
    np.testing.assert_array_equal(found, before)


@given(st.data())
def test_a_chunk_is_prepared_as_each_item_alone(data: st.DataObject) -> None:
    """Good and bad items in one chunk: who is beside whom changes nothing, and a good one is what it was."""
    dtypes = st.sampled_from(["<f4", ">f4", "<f8", "<f2", "<i8", "|u1", "|b1", "<u8"])
    shapes = st.sampled_from([(1, 2), (3, 2), (5, 2), (0, 2), (2, 3), (2,), (7, 2)])
    tensor = part(("rows", 2), max_length=6, minimum=-100, maximum=1000)
    chunk = data.draw(st.lists(npst.arrays(dtypes, shapes), max_size=6))
    together = tensor.prepare(chunk, REQUEST)
    for array, found in zip(chunk, together, strict=True):
        (alone,) = tensor.prepare([array], REQUEST)
        if isinstance(found, InvalidInput):
            assert isinstance(alone, InvalidInput)
            assert found.message == alone.message
        else:
            np.testing.assert_array_equal(found["x"], alone["x"])
            np.testing.assert_array_equal(found["x"], array.astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": 1}, "a tensor float32 (points, 3) is needed here, not dict; give an array"),
        ("points", "a tensor float32 (points, 3) is needed here, not str; give an array"),
        (Stubborn(), "a tensor float32 (points, 3) is needed here, not Stubborn; give an array"),
        ([Stubborn()], "a tensor float32 (points, 3) is needed here, and this list is none: no numbers today"),
        (None, "a tensor float32 (points, 3) is needed here, not NoneType; give an array"),
        ([[1, 2, 3], [1, 2]], "a tensor float32 (points, 3) is needed here, and this list is none: "),
        (np.ones((2, 3), dtype=bool), "the array is bool, which does not convert safely"),
        (np.ones((2, 3), dtype=complex), "the array is complex128, which does not convert safely"),
        (np.array([["a", "b", "c"]]), "the array is <U1, which does not convert safely"),
        (np.array([[None, 1, 2]]), "the array is object, which does not convert safely"),
        (np.zeros((2, 3), dtype="M8[s]"), "the array is datetime64[s], which does not convert safely"),
        (np.zeros((2, 3), dtype=[("x", "f4")]), "the array is [('x', '<f4')], which does not convert safely"),
        (np.ma.masked_array([[1.0, 2, 3]], [[0, 1, 0]]), "the array is masked; give one that has NaN"),
        (points(2)[0], "the array has 1 axes, (3,); this part takes 2: float32 (points, 3)"),
        (np.zeros((2, 2)), "axis 1 has size 2, this part takes 3: float32 (points, 3)"),
        (np.zeros((0, 3)), "axis 0 (points) is empty; give at least one row, or leave the item out"),
        (np.zeros((10, 3)), "axis 0 (points) has size 10, the model's limit is 9; cut or thin out the array"),
        ([[0, 1, 2], [3, np.nan, 4]], "the number at (1, 1) is nan; this part takes finite numbers"),
        ([[0, 1, -np.inf], [3, np.nan, 4]], "the number at (0, 2) is -inf; this part takes finite numbers"),
        (np.full((1, 3), 1e300), "the number at (0, 0) is 1e+300, this part takes -3.4028235e+38 to 3.4028235e+38"),
    ],
)
def test_a_wrong_array_is_told_what_is_wanted(content: object, message: str) -> None:
    tensor = part(("points", 3), max_length=9)
    assert fault(tensor, content).startswith(message)
    assert tensor.estimate([content]) > 0
    assert tensor.weight(content) >= 0
    good, bad, also_good = tensor.prepare([points(2), content, points(3)], REQUEST)
    np.testing.assert_array_equal(good["x"], points(2))
    assert isinstance(bad, InvalidInput)
    np.testing.assert_array_equal(also_good["x"], points(3))


def test_integers_convert_in_range_and_floats_do_not() -> None:
    tensor = part(("events",), dtype="int32", minimum=0, maximum=99)
    found = row(tensor, np.array([0, 99], dtype=np.uint8))
    assert found.dtype == np.dtype("int32")
    assert found.tolist() == [0, 99]
    assert fault(tensor, [1, 100]) == "the number at (1,) is 100, this part takes 0 to 99"
    assert fault(tensor, [1 << 40]) == f"the number at (0,) is {1 << 40}, this part takes 0 to 99"
    assert "float64, which does not convert safely" in fault(tensor, [1.0])
    assert "uint64, which does not convert safely" in fault(tensor, np.array([1], dtype=np.uint64))
    assert "object, which does not convert safely" in fault(tensor, [10**30])
    assert fault(part((1,), dtype="uint8"), [-1]) == "the number at (0,) is -1, this part takes 0 to 255"


def test_truth_values_are_no_numbers() -> None:
    tensor = part((2,), dtype="bool")
    assert row(tensor, [True, False]).dtype == np.dtype("bool")
    assert "int64, which does not convert safely" in fault(tensor, [0, 1])


def test_bounds_are_as_exact_as_the_dtype() -> None:
    """0.7 is less than the bound 0.7 once it is a float32: it must be taken all the same."""
    tensor = part((1,), minimum=0.7, maximum=0.7)
    assert row(tensor, [0.7]) == np.float32(0.7)
    assert fault(tensor, [0.8]) == "the number at (0,) is 0.8, this part takes 0.7 to 0.7"


def test_missing_numbers_become_zero_and_are_marked() -> None:
    tensor = part(("time", 2), missing="mask", minimum=1, inputs={"observed": "seen"})
    gaps, whole, nothing, low = tensor.prepare(
        [np.array([[1, np.nan], [np.nan, 4]]), np.ones((3, 2)), np.full((2, 2), np.nan), np.array([[np.nan, 0.5]])],
        REQUEST,
    )
    assert gaps["x"].tolist() == [[1, 0], [0, 4]]
    assert gaps["seen"].tolist() == [[True, False], [False, True]]
    assert whole["seen"].all()
    assert whole["seen"].shape == (3, 2)
    assert "every number of the array is missing" in nothing.message
    assert low.message.startswith("the number at (0, 1) is 0.5, this part takes 1.0 to ")


def test_length_counts_rows_in_units_where_they_vary() -> None:
    series, volume = part(("time", 2), unit=4, max_length=100), part((4, 4, 4))
    assert [series.size(series.prepare([np.zeros((n, 2))], REQUEST)[0]) for n in (1, 8, 9)] == [1, 2, 2]
    assert series.estimate([np.zeros((8, 2)), [[1, 2]] * 9, np.zeros((500, 2)), 3, "?"]) == 2 + 2 + 25 + 1 + 1
    assert volume.size(volume.prepare([np.zeros((4, 4, 4))], REQUEST)[0]) == 1
    assert volume.estimate([np.zeros((4, 4, 4))] * 3) == 3
    assert [volume.weight(each) for each in (np.zeros((4, 4, 4)), np.zeros((4, 4, 4)).tolist(), 1, [])] == [
        512,
        512,
        8,
        8,
    ]


@pytest.mark.parametrize(
    "tensor",
    [
        part(("points", 3)),
        part((), maximum=-5),
        part((4, 4), dtype="uint8", minimum=250),
        part(("ids",), dtype="int64", minimum=0, maximum=30000),
        part((3,), dtype="bool"),
        part((2,), dtype="int32", maximum=-3),
        part(("points", 4), steps=(FarthestPoints(count=5),)),
        part(("time",), max_length=2, steps=(Resample(count=5),)),
    ],
    ids=lambda tensor: f"{tensor.spec.dtype}{tensor.spec.shape}",
)
def test_a_probe_is_taken_by_its_own_part(tensor: TensorInput) -> None:
    assert row(tensor, tensor.probe()).any()


def naive_farthest(cloud: NDArray[Any], count: int) -> list[int]:
    taken = [0]
    while len(taken) < count:
        nearest = [min(((point - cloud[i]) ** 2).sum() for i in taken) for point in cloud]
        taken.append(int(np.argmax(nearest)))
    return taken


@given(
    npst.arrays(np.int32, st.tuples(st.integers(1, 20), st.just(4)), elements=st.integers(-50, 50)), st.integers(1, 12)
)
def test_farthest_points_are_those_of_the_definition(cloud: NDArray[np.int32], count: int) -> None:
    found = row(part(("points", 4), steps=(FarthestPoints(count=count),)), cloud)
    if len(cloud) <= count:
        np.testing.assert_array_equal(found, np.resize(cloud, (count, 4)))
    else:
        np.testing.assert_array_equal(found, cloud[naive_farthest(cloud[:, :3].astype(float), count)])


def test_farthest_points_of_giant_and_of_equal_coordinates() -> None:
    tensor = part(("points", 3), steps=(FarthestPoints(count=2),))
    corners = np.array([[0, 0, 0], [1, 0, 0], [3, 0, 0]]) * np.float32(1e38)
    assert row(tensor, corners)[1, 0] == np.float32(3e38)
    assert row(tensor, np.zeros((5, 3))).tolist() == [[0, 0, 0]] * 2


@given(
    npst.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.floats(-(2.0**100), 2.0**100, width=32)
    ),
    st.integers(1, 20),
)
def test_resampled_rows_lie_on_the_lines_between_their_neighbours(series: NDArray[np.float32], count: int) -> None:
    found = row(part(("time", 2), steps=(Resample(count=count),)), series)
    places = np.linspace(0, len(series) - 1, count)
    wanted = [np.interp(places, np.arange(len(series)), column.astype(np.float64)) for column in series.T]
    np.testing.assert_allclose(found, np.stack(wanted, axis=1), rtol=1e-6, atol=1e-6 * float(np.abs(series).max()))
    assert found.shape == (count, 2)
    assert found.dtype == np.dtype("float32")
    assert (found >= series.min(axis=0)).all()
    assert (found <= series.max(axis=0)).all()

"""What a lane guards and tests of every kind of output, and what may be asked for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import outputs
from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.errors import BundleError, InvalidInput
from tests.runtime.specs import ALL, CODES, DENSE, DIM, GAUSSIAN, MULTI, SCORES, batch

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

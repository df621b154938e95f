"""Vector parts: precomputed vectors come through, of the right size and space, at length 1 where that is wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from embedge.bundle.part_specs import VectorPrepare
from embedge.config import RuntimeConfig
from embedge.content import Vector
from embedge.errors import InvalidInput
from embedge.inputs.vector import VectorInput
from embedge.request import Request

REQUEST = Request(items=[])


def part(**options: Any) -> VectorInput:
    return VectorInput(VectorPrepare(inputs={"values": "v"}, dim=4, **options), RuntimeConfig(), Path)


def fault(vector: VectorInput, content: object) -> str:
    (found,) = vector.prepare([content], REQUEST)
    assert isinstance(found, InvalidInput)
    return found.message


def test_vectors_come_as_vectors_arrays_or_lists() -> None:
    values = [1.0, 2.0, 3.0, 4.0]
    for content in (Vector(np.array(values), "a"), Vector(np.array(values)), np.array(values, ">f8"), values):
        (row,) = part(space="a").prepare([content], REQUEST)
        assert row["v"].dtype == np.dtype("float32")
        assert row["v"].tolist() == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1.0, 2.0], "axis 0 has size 2, this part takes 4: float32 (4)"),
        (np.ones((1, 4)), "the array has 2 axes, (1, 4); this part takes 1: float32 (4)"),
        ([1, 2, np.nan, 3], "the number at (2,) is nan; this part takes finite numbers"),
        (Vector(np.ones(4), "b"), "the vector is of the space 'b', this part takes vectors of 'a'"),
        ([0, 0, 0, 0], "the vector is all zeros and has no direction; leave it out"),
        ("text", "a tensor float32 (4) is needed here, not str; give an array"),
    ],
)
def test_a_wrong_vector_fails_alone(content: object, message: str) -> None:
    vector = part(space="a", normalize=True)
    assert fault(vector, content) == message
    good, bad, also_good = vector.prepare([[3, 0, 0, 4], content, [0, 2, 0, 0]], REQUEST)
    assert good["v"].tolist() == pytest.approx([0.6, 0, 0, 0.8])
    assert isinstance(bad, InvalidInput)
    assert also_good["v"].tolist() == [0, 1, 0, 0]


def test_zeros_are_a_vector_where_the_length_does_not_matter() -> None:
    (row,) = part().prepare([np.zeros(4)], REQUEST)
    assert not row["v"].any()


@given(
    st.lists(
        npst.arrays(np.float32, 4, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)), max_size=5
    )
)
def test_vectors_have_length_one_beside_any_others(vectors: list[NDArray[np.float32]]) -> None:
    """From the smallest numbers of a float32 to the largest, and none depends on who is beside it."""
    vector = part(normalize=True)
    for given_, row in zip(vectors, vector.prepare(vectors, REQUEST), strict=True):
        (alone,) = vector.prepare([given_], REQUEST)
        if isinstance(row, InvalidInput):
            assert not given_.any()
        else:
            assert np.linalg.norm(row["v"]) == pytest.approx(1, abs=1e-6)
            assert row["v"].tolist() == alone["v"].tolist()


def test_its_own_probe_has_one_place() -> None:
    vector = part(normalize=True)
    (row,) = vector.prepare([vector.probe()], REQUEST)
    assert vector.size(row) == 1
    assert vector.estimate([[1], [2]]) == 2
    assert vector.weight(Vector(np.ones(4, np.float32))) == vector.weight(np.ones(4, np.float32)) == 16

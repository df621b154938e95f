"""Table parts: rows become numbers, codes and what was observed; a wrong row fails alone and names its column."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge.bundle.part_specs import Column, TablePrepare
from embedge.config import RuntimeConfig
from embedge.errors import InvalidInput
from embedge.inputs.table import TableInput
from embedge.request import Request

REQUEST = Request(items=[])
INPUTS = {"numbers": "n", "categories": "c", "observed": "o"}
COLUMNS = (
    Column(name="sex", categories=("f", "m"), missing=True),
    Column(name="age", minimum=0, maximum=120),
    Column(name="site", categories=tuple(f"site {n}" for n in range(12))),
    Column(name="albumin", missing=True),
)
ROW = {"sex": "m", "age": 61, "site": "site 3", "albumin": 4.1}


def part(columns: tuple[Column, ...] = COLUMNS, inputs: Any = INPUTS) -> TableInput:
    return TableInput(TablePrepare(inputs=inputs, columns=columns), RuntimeConfig(), Path)


def row(content: object) -> Mapping[str, Any]:
    (found,) = part().prepare([content], REQUEST)
    assert not isinstance(found, InvalidInput), found
    return found


def test_a_row_becomes_numbers_codes_and_what_was_observed() -> None:
    found = row(ROW)
    assert found["n"].dtype == np.dtype("float32")
    assert found["n"].tolist() == [61, np.float32(4.1)]
    assert found["c"].dtype == np.dtype("int64")
    assert found["c"].tolist() == [1, 3]
    assert found["o"].tolist() == [True, True, True, True]


@pytest.mark.parametrize("nothing", [None, math.nan, float("nan"), np.float32("nan"), "absent"])
def test_a_missing_cell_is_zero_or_the_number_of_categories(nothing: object) -> None:
    cells: dict[str, object] = {"age": 61, "site": "site 3"}
    if nothing != "absent":
        cells |= {"sex": nothing, "albumin": nothing}
    found = row(cells)
    assert found["n"].tolist() == [61, 0]
    assert found["c"].tolist() == [2, 3]
    assert found["o"].tolist() == [False, True, True, False]


def test_any_mapping_and_any_number_will_do() -> None:
    cells = {**ROW, "age": np.int8(61), "albumin": np.float16(0.5), "site": np.str_("site 3")}
    assert row(MappingProxyType(cells))["n"].tolist() == [61, 0.5]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, 2], "a row is needed here, a mapping of column to number or category, not list"),
        ({**ROW, "ages": 1}, "column 'ages' is unknown; this part has: sex, age, site, albumin"),
        ({**ROW, 7: 1}, "column 7 is unknown; this part has: sex, age, site, albumin"),
        ({"age": 3}, "column 'site' is missing; this part needs it"),
        ({**ROW, "age": None}, "column 'age' is missing; this part needs it"),
        ({**ROW, "age": math.nan}, "column 'age' is missing; this part needs it"),
        ({**ROW, "age": "61"}, "column 'age' needs a number, not str"),
        ({**ROW, "age": True}, "column 'age' needs a number, not bool"),
        ({**ROW, "age": [61]}, "column 'age' needs a number, not list"),
        ({**ROW, "age": 130}, "column 'age' is 130; it takes finite numbers from 0 up to 120"),
        ({**ROW, "albumin": -math.inf}, "column 'albumin' is -inf; it takes finite numbers"),
        ({**ROW, "albumin": 10**400}, "column 'albumin' is inf; it takes finite numbers"),
        ({**ROW, "albumin": 1e39}, "column 'albumin' is 1e+39; it takes finite numbers"),
        ({**ROW, "sex": 1}, "column 'sex' needs a category, not int; it has: f, m"),
        ({**ROW, "sex": ["m"]}, "column 'sex' needs a category, not list; it has: f, m"),
        (
            {**ROW, "site": "elsewhere"},
            "column 'site' has no category 'elsewhere'; it has: site 0, site 1, site 2, site 3, site 4, site 5, "
            "site 6, site 7, … (4 more)",
        ),
        ({}, "column 'age' is missing; this part needs it"),
    ],
)
def test_a_wrong_row_fails_alone_and_names_its_column(cells: object, message: str) -> None:
    good, bad, also_good = part().prepare([ROW, cells, {**ROW, "sex": "f"}], REQUEST)
    assert isinstance(bad, InvalidInput)
    assert bad.message == message
    assert (good["c"].tolist(), also_good["c"].tolist()) == ([1, 3], [0, 3])


def test_bounds_beyond_what_the_graph_can_hold_let_no_infinity_through() -> None:
    wide = part((Column(name="age", minimum=-1e308, maximum=1e308),), {"numbers": "n"})
    for cell in (1e300, -1e300):
        (found,) = wide.prepare([{"age": cell}], REQUEST)
        assert isinstance(found, InvalidInput)


def test_a_row_of_nothing_is_none() -> None:
    optional = part((Column(name="a", missing=True),), {"numbers": "n"})
    (found,) = optional.prepare([{}], REQUEST)
    assert found.message == "every cell of the row is missing; leave the item out"


def test_tables_of_one_kind_of_column() -> None:
    numbers = part((Column(name="lat", minimum=-90, maximum=90), Column(name="lon")), {"numbers": "n"})
    (found,) = numbers.prepare([numbers.probe()], REQUEST)
    assert {name: array.tolist() for name, array in found.items()} == {"n": [0, 1]}
    categories = part((Column(name="land", categories=("is", "no")),), {"categories": "c"})
    (found,) = categories.prepare([{"land": "no"}], REQUEST)
    assert {name: array.tolist() for name, array in found.items()} == {"c": [1]}


CELLS = {
    "sex": st.sampled_from([None, "f", "m", "x", 1]),
    "age": st.one_of(st.integers(-5, 130), st.just("old"), st.none()),
    "site": st.sampled_from(["site 0", "site 11", "site 12", math.nan]),
    "albumin": st.one_of(st.floats(), st.none()),
}


@given(st.lists(st.fixed_dictionaries({}, optional=CELLS), max_size=5))
def test_a_chunk_is_prepared_as_each_row_alone(rows: list[dict[str, object]]) -> None:
    table = part()
    for cells, found in zip(rows, table.prepare(rows, REQUEST), strict=True):
        (alone,) = table.prepare([cells], REQUEST)
        if isinstance(found, InvalidInput):
            assert isinstance(alone, InvalidInput)
            assert found.message == alone.message
        else:
            assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in alone.items()}
            assert found["n"][0] == cells["age"]
            assert found["o"].tolist()[1:3] == [True, True]


def test_its_own_probe_has_one_place() -> None:
    table = part()
    found = row(table.probe())
    assert table.size(found) == 1
    assert found["o"].all()
    assert table.estimate([ROW, ROW]) == 2
    assert table.weight(ROW) == 64
    assert table.weight("?") == 16

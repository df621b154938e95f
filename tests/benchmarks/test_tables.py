"""The terminal's tables: no figure is ever cut, however narrow the terminal and long the names."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from embedge_bench import stats
from embedge_bench.results import Parity, Round, TokenCounts
from embedge_bench.tables import ratio_table, row_table
from tests.benchmarks.records import WORKLOAD, round_of

NARROWEST = 60


def drawn(table: Table, width: int) -> str:
    out = StringIO()
    Console(file=out, width=width).print(table)
    return out.getvalue()


def rounds_of(target: str, count: int, speed: int = 1) -> list[Round]:
    extra = {
        "joules": 1.0,
        "refusals": 12345,
        "tokens": TokenCounts(real=50, computed=100),
        "parity": Parity(reference="r", items=1, min_cosine=1.0, mean_cosine=1.0),
    }
    return [round_of(target, n, *[1.5] * (speed + n), seconds=1.0, **extra) for n in range(1, count + 1)]


@given(width=st.integers(NARROWEST, 200), name=st.text("ab:?=-", min_size=1, max_size=60), rounds=st.integers(1, 6))
def test_no_figure_is_cut(width: int, name: str, rounds: int) -> None:
    (row,) = stats.rows(rounds_of(name, rounds, 1000), {"short": WORKLOAD})
    shown = drawn(row_table([row], {"short": WORKLOAD}, width), width)
    assert "…" not in shown
    assert all(len(line) <= width for line in shown.splitlines())
    for figure in ("1.000000", "1500", f"{row.throughput.value:.0f}", f"{row.refusals}"):
        assert figure in shown
    if rounds > 1:
        assert f"{row.throughput.low:.0f}–{row.throughput.high:.0f}" in shown


@pytest.mark.parametrize(("width", "left_out"), [(80, True), (160, False)])
def test_columns_that_have_no_room_are_named(width: int, left_out: bool) -> None:
    rows = stats.rows(rounds_of("a name that takes its place", 2), {"short": WORKLOAD})
    shown = drawn(row_table(rows, {"short": WORKLOAD}, width), width)
    assert ("no room for MB, J/1000; a wider terminal has it" in " ".join(shown.split())) == left_out
    assert "cosine" in shown


@given(width=st.integers(NARROWEST, 200), rounds=st.integers(1, 6))
def test_ratios_are_whole_and_say_what_their_intervals_are(width: int, rounds: int) -> None:
    both = [*rounds_of("peer", rounds, 1), *rounds_of("a target with a long name", rounds, 400)]
    found = stats.ratios(both, ["peer"])
    shown = " ".join(drawn(ratio_table(found, width), width).split())
    assert "…" not in shown
    assert "±" not in shown
    for ratio in found:
        assert f"{ratio.value.value:.2f}" in shown
        if rounds > 1:
            assert f"{ratio.value.low:.2f}–{ratio.value.high:.2f}" in shown
    assert (stats.spread(rounds) in shown) == (rounds > 1)


def test_workload_is_shown_where_there_are_several() -> None:
    rows = stats.rows(rounds_of("a", 1), {"short": WORKLOAD})
    assert "short" not in drawn(row_table(rows, {"short": WORKLOAD}, 80), 80)
    assert "short" in drawn(row_table(rows, {"short": WORKLOAD, "long": WORKLOAD}, 80), 80)

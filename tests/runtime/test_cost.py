"""The cost table: monotone always, exact on its rungs, taught by what happens but not by one accident."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge.scheduling.cost_table import CostTable

ROWS, LENGTHS = (1, 4, 16), (8, 32, 128)
Law = Callable[[int, int], float]


def law(rows: int, length: int) -> float:
    return 1e-3 + 1e-5 * rows * length


class Clock:
    """Virtual time that passes only while something runs."""

    def __init__(self, seconds: Law = law) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.runs: list[tuple[int, int]] = []

    def __call__(self) -> float:
        return self.now

    def run(self, rows: int, length: int) -> None:
        self.runs.append((rows, length))
        self.now += self.seconds(rows, length)


def measured(seconds: Law = law, budget: float = 100.0) -> CostTable:
    table, clock = CostTable(ROWS, LENGTHS), Clock(seconds)
    table.measure(clock.run, budget=budget, clock=clock)
    return table


def assert_rises(table: CostTable) -> None:
    sizes = [1, 2, 3, 4, 5, 9, 16, 17, 40]
    lengths = [1, 7, 8, 9, 31, 32, 33, 100, 128, 129, 1000]
    for rows, more in pairwise(sizes):
        for length in lengths:
            assert table.seconds(rows, length) <= table.seconds(more, length) * (1 + 1e-9)
    for length, longer in pairwise(lengths):
        for rows in sizes:
            assert table.seconds(rows, length) <= table.seconds(rows, longer) * (1 + 1e-9)


observations = st.lists(st.tuples(st.integers(1, 100), st.integers(1, 500), st.floats(1e-6, 100.0)), max_size=30)
grids = st.lists(st.lists(st.floats(1e-6, 1e3), min_size=3, max_size=3), min_size=3, max_size=3)


@given(grids, observations)
def test_rises_with_rows_and_length_whatever_it_is_told(
    grid: list[list[float]], seen: list[tuple[int, int, float]]
) -> None:
    table = CostTable(ROWS, LENGTHS)
    assert table.restore(grid)
    for rows, length, seconds in seen:
        table.observe(rows, length, seconds)

    assert_rises(table)


def test_exact_on_the_rungs_between_them_where_the_law_is_linear_and_in_proportion_beyond() -> None:
    table = measured()

    for rows in ROWS:
        for length in LENGTHS:
            assert table.seconds(rows, length) == pytest.approx(law(rows, length))
    assert table.seconds(2, 20) == pytest.approx(law(2, 20))
    assert table.seconds(16, 1280) == pytest.approx(10 * law(16, 128))
    assert table.seconds(160, 128) == pytest.approx(10 * law(16, 128))
    assert table.seconds(1, 1) == pytest.approx(law(1, 8))


@pytest.mark.parametrize("factor", [4.0, 0.25])
@pytest.mark.parametrize("place", [(1, 8), (4, 32), (16, 128), (7, 50), (64, 300)])
def test_learns_a_lasting_change(factor: float, place: tuple[int, int]) -> None:
    table = measured()
    truth = table.seconds(*place) * factor

    for _ in range(100):
        table.observe(*place, truth)

    assert table.seconds(*place) == pytest.approx(truth, rel=0.05)
    assert_rises(table)


@given(st.integers(1, 64), st.integers(1, 500), st.sampled_from([1e-9, 1e-3, 1e3, 1e9]))
def test_one_accident_moves_nothing_far(rows: int, length: int, seconds: float) -> None:
    table = measured()
    before = table.grid

    table.observe(rows, length, seconds)

    for line, old in zip(table.grid, before, strict=True):
        for figure, was in zip(line, old, strict=True):
            assert 1 / 1.13 < figure / was < 1.13


def test_accidents_among_good_runs_do_not_stay() -> None:
    table = measured()
    for number in range(400):
        table.observe(4, 32, law(4, 32) * (20 if number % 20 == 0 else 1))

    assert table.seconds(4, 32) == pytest.approx(law(4, 32), rel=0.15)


@pytest.mark.parametrize("budget", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("token", [1e-6, 1e-5, 1e-4, 1e-3])
def test_measuring_keeps_to_its_budget(budget: float, token: float) -> None:
    clock = Clock(lambda rows, length: token * rows * length)
    table = CostTable(ROWS, LENGTHS)

    table.measure(clock.run, budget=budget, clock=clock)

    warm = clock.seconds(*clock.runs[0])
    first = clock.seconds(ROWS[0], LENGTHS[0])  # one rung is measured, whatever it takes
    assert clock.now <= max(budget, first) * 1.3 + warm
    assert table.measured
    assert table.seconds(16, 128) == pytest.approx(clock.seconds(16, 128), rel=0.01), "the rest is in proportion"


def test_a_first_run_that_takes_longer_than_the_whole_budget() -> None:
    seconds = iter([60.0])
    clock = Clock(lambda rows, length: next(seconds, law(rows, length)))
    table = CostTable(ROWS, LENGTHS)

    table.measure(clock.run, budget=2.0, clock=clock)

    assert table.seconds(1, 8) == pytest.approx(law(1, 8))
    assert_rises(table)


@pytest.mark.parametrize(
    "grid",
    [
        [],
        [[1.0]],
        [[1.0, 2.0, 3.0]] * 2,
        [[1.0, 2.0]] * 3,
        [[1.0, 2.0, -3.0]] * 3,
        [[1.0, 2.0, 0.0]] * 3,
        [[1.0, 2.0, float("nan")]] * 3,
        [[1.0, 2.0, float("inf")]] * 3,
    ],
)
def test_restore_refuses_nonsense_and_changes_nothing(grid: list[list[float]]) -> None:
    table = measured()
    before = table.grid

    assert not table.restore(grid)
    assert table.grid == before


def test_restore_takes_over_what_another_table_learned() -> None:
    table = CostTable(ROWS, LENGTHS)

    assert table.restore(measured().grid)
    assert table.measured
    assert table.seconds(4, 32) == pytest.approx(law(4, 32))


@pytest.mark.parametrize(("factor", "fits"), [(1.0, True), (1.5, True), (3.0, False), (0.3, False)])
def test_fits_tells_whether_reality_is_still_the_same(factor: float, fits: bool) -> None:
    table = CostTable(ROWS, LENGTHS)
    table.restore(measured().grid)
    clock = Clock(lambda rows, length: law(rows, length) * factor)

    assert table.fits(clock.run, clock=clock) is fits
    assert clock.now < 0.1


def test_fits_is_not_deceived_by_a_slow_first_run() -> None:
    table = measured()
    first = iter([5.0])
    clock = Clock(lambda rows, length: next(first, law(rows, length)))

    assert table.fits(clock.run, clock=clock)


def test_two_lanes_that_measure_meet_half_way() -> None:
    table = CostTable(ROWS, LENGTHS)
    for factor in (1.0, 4.0):
        clock = Clock(lambda rows, length, factor=factor: law(rows, length) * factor)  # type: ignore[misc]
        table.measure(clock.run, budget=100, clock=clock)

    assert table.seconds(4, 32) == pytest.approx(2 * law(4, 32))


def test_a_stored_table_that_does_not_fit_is_thrown_away() -> None:
    table = CostTable(ROWS, LENGTHS)
    table.restore([[figure * 100 for figure in line] for line in measured().grid])
    clock = Clock()

    table.measure(clock.run, budget=100, clock=clock)

    assert table.seconds(4, 32) == pytest.approx(law(4, 32))

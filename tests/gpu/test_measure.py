"""The arithmetic of the run: rounds, ratios, percentiles, and how far vectors are apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import measure
from benchmarks.gpu.measure import Pace
from embedge_bench.results import Estimate


class Played:
    """A way that takes so many seconds a batch, by a clock that it moves."""

    def __init__(self, name: str, seconds: Sequence[float], time: list[float]) -> None:
        self.name, self._seconds, self._time, self.batches = name, seconds, time, 0
        self._calls = count()

    def run(self, batches: Sequence[Any]) -> list[np.ndarray]:
        self._time[0] += self._seconds[next(self._calls) % len(self._seconds)] * len(batches)
        self.batches += len(batches)
        return [np.ones((len(next(iter(each.values()))), 2)) for each in batches]

    def close(self) -> None: ...


FEEDS = [{"ids": np.zeros((4, 8))}, {"ids": np.zeros((2, 8))}]


def test_a_rate_is_rows_over_seconds_and_the_first_round_only_warms_up() -> None:
    time = [0.0]
    way = Played("ours", [100.0, 0.5, 0.25], time)
    found = measure.rates([way], FEEDS, Pace(rounds=2), lambda: time[0])
    assert found == {"ours": [[6.0], [12.0]]}
    assert measure.compared(found)["ours"] == Estimate(value=9.0, low=6.0, high=12.0)


def test_ratios_are_taken_within_a_round() -> None:
    found = {"ours": [[8.0], [2.0]], "theirs": [[4.0], [1.0]]}
    assert measure.quotients(found, "ours", "theirs") == Estimate(value=2.0, low=2.0, high=2.0)
    assert measure.quotients(found, "theirs", "ours").value == 0.5


def test_a_round_of_latency_is_many_calls() -> None:
    time = [0.0]
    way = Played("ours", [1.0, 2.0, 3.0], time)
    found = measure.times([way], FEEDS[0], Pace(rounds=1, calls=3), lambda: time[0])
    assert found == {"ours": [[1.0, 2.0, 3.0]]}
    assert measure.compared(found, 50, 1e3)["ours"].value == 2000.0
    assert way.batches == 6


def test_every_way_has_its_turn_in_every_round() -> None:
    ways = [Played(name, [1.0], [0.0]) for name in "abc"]
    turns: list[str] = []
    measure.interleaved(ways, lambda way: turns.append(way.name) or [1.0], 20)  # type: ignore[func-returns-value]
    rounds = ["".join(turns[start : start + 3]) for start in range(0, len(turns), 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 1


@given(st.floats(0.01, 0.5), st.integers(0, 4))
def test_the_gap_is_that_of_the_row_that_is_farthest_away(angle: float, row: int) -> None:
    true = np.tile([1.0, 0.0], (5, 1)).astype(np.float32)
    ours = 3 * true
    ours[row] = np.cos(angle), np.sin(angle)
    assert measure.gap(ours, true) == pytest.approx(1 - np.cos(angle), rel=1e-3)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf])
def test_a_row_without_a_direction_is_as_far_as_can_be(bad: float) -> None:
    good = np.ones((3, 4))
    ours = good.copy()
    ours[1] = bad
    assert measure.gap(good, good) < 1e-12
    assert measure.gap(ours, good) == 2.0

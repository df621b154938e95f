"""From rounds to figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge_bench import stats
from embedge_bench.results import PERCENTILES, Load, Parity, TokenCounts, Usage
from tests.benchmarks.records import CLOSED, WORKLOAD, round_of

seconds = st.floats(1e-6, 1e3)


@given(st.lists(seconds, min_size=1, max_size=200))
def test_percentiles_are_numpys(values: list[float]) -> None:
    expected = [np.percentile(values, rank) for rank in PERCENTILES]
    assert list(stats.percentiles(values).values()) == pytest.approx(expected)
    assert list(stats.percentiles(values)) == ["p50", "p90", "p95", "p99", "p99.9"]


def test_interval_is_students() -> None:
    found = stats.estimate([11.0, 12.0, 13.0, 14.0, 15.0])
    assert found.value == pytest.approx(13.0)
    assert found.low == pytest.approx(13.0 - 2.776 * np.sqrt(2.5 / 5))
    assert found.high == pytest.approx(13.0 + 2.776 * np.sqrt(2.5 / 5))


@given(st.lists(seconds, min_size=2, max_size=stats.FEW - 1))
def test_few_rounds_have_their_range_and_no_interval(values: list[float]) -> None:
    for found in (stats.estimate(values), stats.geometric(values)):
        assert (found.low, found.high) == (pytest.approx(min(values)), pytest.approx(max(values)))
    assert stats.spread(len(values)) == f"lowest–highest of {len(values)} rounds"


@given(st.lists(seconds, min_size=2, max_size=40))
def test_no_figure_reaches_below_zero(values: list[float]) -> None:
    for found in (stats.estimate(values), stats.geometric(values)):
        assert found.low is not None
        assert 0 <= found.low <= found.value * (1 + 1e-9)


def test_interval_covers_the_truth_about_95_times_in_100() -> None:
    dice = np.random.default_rng(0)
    found = [stats.estimate(dice.normal(10, 2, 5).tolist()) for _ in range(2000)]
    assert 0.935 < np.mean([f.low <= 10 <= f.high for f in found]) < 0.965


def test_one_round_says_nothing_about_spread() -> None:
    found = stats.estimate([4.0])
    assert (found.value, found.low, found.high) == (4.0, None, None)


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=40))
def test_ratio_turned_round_is_its_inverse(values: list[float]) -> None:
    one, other = stats.geometric(values), stats.geometric([1 / value for value in values])
    assert one.value == pytest.approx(1 / other.value)
    assert one.low == pytest.approx(1 / other.high)


def test_ratios_pair_rounds_by_number() -> None:
    rounds = [
        *(round_of("b", 2, *[0.2] * 40), round_of("a", 1, *[0.1] * 10)),
        *(round_of("a", 2, *[0.1] * 20), round_of("b", 1, *[0.3] * 30)),
    ]
    throughput, p50, p99 = stats.ratios(rounds, ["a"])
    assert sorted(throughput.rounds) == pytest.approx([2.0, 3.0])
    assert throughput.value.value == pytest.approx(np.sqrt(6))
    assert (p50.figure, sorted(p50.rounds)) == ("p50", pytest.approx([2.0, 3.0]))
    assert (throughput.target, throughput.base, p99.figure) == ("b", "a", "p99")


def test_latencies_under_a_load_of_its_own_are_compared_with_nobodys() -> None:
    rounds = [round_of("a", 1, 0.1), round_of("b", 1, 0.1), round_of("ort", 1, 0.01, own_load=True)]
    found = [(ratio.target, ratio.figure) for ratio in stats.ratios(rounds, ["a"])]
    assert found == [("b", "throughput"), ("b", "p50"), ("b", "p99"), ("ort", "throughput")]
    assert [ratio.figure for ratio in stats.ratios(rounds, ["ort"])] == ["throughput"] * 2


def test_of_several_bases_the_better_counts_figure_by_figure() -> None:
    rounds = [round_of("us", 1, *[0.2] * 40), round_of("fast", 1, *[0.1] * 20), round_of("many", 1, *[0.4] * 80)]
    throughput, p50, _ = stats.ratios(rounds, ["fast", "many"])
    assert throughput.value.value == pytest.approx(40 / 80)
    assert p50.value.value == pytest.approx(0.2 / 0.1)
    assert (throughput.target, throughput.base) == ("us", "the better of fast, many")


def test_rounds_with_nothing_in_them_make_no_ratio() -> None:
    assert stats.ratios([round_of("a", 1), round_of("b", 1, 0.1)], ["a"]) == ()


def test_row_sums_up_its_rounds() -> None:
    parts = {"joules": 3.0, "server": Usage(cpu_seconds=0.4, rss=5000), "refusals": 1, "refusal_latencies": (0.01,)}
    rounds = [
        round_of("a", 1, 0.1, 0.3, errors={"Unavailable": 2}, tokens=TokenCounts(real=50, computed=100), **parts),
        round_of("a", 2, 0.2, 0.4, errors={"Unavailable": 1, "BackendError": 1}, **parts),
    ]
    (row,) = stats.rows(rounds, {"short": WORKLOAD})
    assert row.throughput.value == pytest.approx(2.0)
    assert row.latency["p50"].value == pytest.approx(0.25)
    assert row.short_latency["p50"].value == pytest.approx(0.35)
    assert row.errors == {"Unavailable": 3, "BackendError": 1}
    assert (row.refusals, row.refusal_p99) == (2, pytest.approx(0.01))
    assert row.padding_efficiency == pytest.approx(0.5)
    assert row.joules_per_thousand == pytest.approx(1500)
    assert row.server_cpu_ms == pytest.approx(200)
    assert (row.client_cpu_ms, row.rss) == (pytest.approx(50), 5000)


def test_worst_vector_of_any_round_is_the_rows_parity() -> None:
    def parity(worst: float, items: int) -> Parity:
        return Parity(reference="r", items=items, min_cosine=worst, mean_cosine=worst)

    rounds = [round_of("a", n, 0.1, parity=parity(worst, n)) for n, worst in ((1, 0.9), (3, 1.0))]
    (row,) = stats.rows(rounds, {"short": WORKLOAD})
    assert row.parity is not None
    assert (row.parity.min_cosine, row.parity.items) == (0.9, 4)
    assert row.parity.mean_cosine == pytest.approx(0.975)


def test_what_the_machine_does_not_tell_is_none() -> None:
    (row,) = stats.rows([round_of("a", 1, 0.1)], {"short": WORKLOAD})
    assert (row.joules_per_thousand, row.server_cpu_ms, row.padding_efficiency, row.parity) == (None, None, None, None)


def test_rows_come_by_load_and_then_in_the_order_of_the_targets() -> None:
    other = Load(kind="open", rate=5.0, arrivals="poisson")
    rounds = [round_of(target, 1, 0.1, load=load) for load in (CLOSED, other) for target in ("b", "a")]
    found = stats.rows(rounds, {"short": WORKLOAD}, ["a", "b"])
    assert [(row.target, row.load) for row in found] == [("a", CLOSED), ("b", CLOSED), ("a", other), ("b", other)]

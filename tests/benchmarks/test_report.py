from __future__ import annotations

import msgspec
import pytest

from embedge_bench import report, stats
from embedge_bench.report import units
from embedge_bench.report.svg import linear, log, spread, tail
from embedge_bench.results import Estimate
from tests.benchmarks import reports
from tests.benchmarks.records import WORKLOAD, round_of


def test_report_needs_nothing_from_outside() -> None:
    page = report.html(reports.report(rounds=2))
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    assert "<link" not in page
    assert "url(" not in page


def test_every_speed_row_has_its_parity() -> None:
    made = reports.report(rounds=2)
    blind = msgspec.structs.replace(made, rows=tuple(msgspec.structs.replace(row, parity=None) for row in made.rows))
    assert report.html(made).count("0.999998<small>") == 2 * len(made.rows)
    assert report.html(blind).count("not checked</td>") == 2 * len(made.rows)


def test_what_a_machine_does_not_tell_is_said() -> None:
    assert "not available" in report.html(reports.report(rounds=1))


def test_intervals_are_called_what_they_are() -> None:
    assert "lowest–highest of 4 rounds" in report.html(reports.report(rounds=4))
    assert "95 % intervals over 5 rounds" in report.html(reports.report(rounds=5))
    assert "intervals" not in report.html(reports.report(rounds=1))


def test_a_target_with_a_load_of_its_own_is_told_beside_the_ratios() -> None:
    made = reports.report(rounds=1)
    rounds = tuple(msgspec.structs.replace(each, own_load=each.target == "in process") for each in made.rounds)
    page = report.html(msgspec.structs.replace(made, rounds=rounds, ratios=stats.ratios(rounds, ["peer"])))
    assert "No latencies where in process had a load of its own" in page


def test_names_are_text_and_never_markup() -> None:
    made = reports.report(rounds=1)
    page = report.html(msgspec.structs.replace(made, title="<script>alert(1)</script>"))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_a_target_that_answered_nothing_is_a_line_and_no_crash() -> None:
    rounds = [round_of("peer", number, errors={"Unavailable": 3}) for number in (1, 2)]
    made = reports.report(rounds=1)
    empty = msgspec.structs.replace(
        made,
        targets={"peer": made.targets["peer"]},
        workloads={"short": WORKLOAD},
        rounds=tuple(rounds),
        rows=stats.rows(rounds, {"short": WORKLOAD}),
        ratios=(),
        costs={},
    )
    assert "Unavailable: 6" in report.html(empty)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "n/a"),
        (0.0000004, "0.40 µs"),
        (0.00084, "840 µs"),
        (0.0123, "12.3 ms"),
        (0.99996, "1.00 s"),
        (75, "75.0 s"),
    ],
)
def test_times_have_the_unit_that_fits(seconds: float | None, text: str) -> None:
    assert units.time(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(1.0, "1.000000"), (0.9999995, "0.999999"), (0.999998, "0.999998")])
def test_a_cosine_is_never_rounded_up(value: float, text: str) -> None:
    assert units.cosine(value) == text


@pytest.mark.parametrize(("name", "text"), [("embedge", "embedge"), ("inproc:minilm?lanes=2", "inp…lanes=2")])
def test_long_names_keep_their_ends(name: str, text: str) -> None:
    assert units.short(name, 11) == text


def test_interval_of_one_round_is_not_made_up() -> None:
    assert units.interval(Estimate(value=3.0), units.digits) == ""


@pytest.mark.parametrize("values", [[3.0], [0.001, 7.0], [1e-6, 1e3], [5.0, 5.0]])
def test_scales_hold_all_values(values: list[float]) -> None:
    for scale in (linear(values, 0, 100), log(values, 0, 100)):
        assert scale.low <= min(values) <= max(values) <= scale.high
        assert list(scale.ticks) == sorted(scale.ticks)
        assert len(scale.ticks) >= 2


def test_tail_gives_each_nine_the_same_room() -> None:
    scale = tail(0.9999, 0, 100)
    assert scale(0.99) - scale(0.9) == pytest.approx(scale(0.999) - scale(0.99), abs=0.2)


def test_labels_are_moved_apart_and_stay_in_order() -> None:
    assert spread([50, 49, 98, 99], 10, 0, 100) == [59, 49, 90, 100]

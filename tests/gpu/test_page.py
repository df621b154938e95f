"""The page says what the record says, and no figure that is not in it; without a record it says that there is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gpu import page, records
from benchmarks.gpu.records import Check, Device, Latency, Parity, Rate, Ratio, Record, figure
from embedge.errors import InvalidInput
from embedge_bench.results import Estimate
from tests.structure.code import ROOT

PAGE = ROOT / "docs" / "benchmarks-gpu.md"
NUMBER = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?")

values = st.floats(1e-6, 1e7, allow_nan=False).map(records.rounded)
estimates = st.builds(Estimate, value=values, low=values, high=values)
about: dict[str, Any] = {
    "model": st.sampled_from(["minilm", "vit-b-16"]),
    "precision": st.sampled_from(["float32", "float16"]),
    "way": st.sampled_from(["ours", "theirs"]),
}
at: dict[str, Any] = {**about, "shape": st.sampled_from(["4 x 32", "1 x 197"])}
found = st.builds(
    Record,
    date=st.just("2031-02-03"),
    device=st.builds(Device, name=st.just("RTX 9090"), capability=st.just("12.1"), cuda=st.just("14.2"), memory=values),
    versions=st.just({"torch": "3.1.4"}),
    lanes=st.just(3),
    rounds=st.integers(2, 9),
    checks=st.lists(st.builds(Check, provider=st.just("pycuda"), version=st.just("2027.1"), said=st.just("odd"))),
    parity=st.lists(st.builds(Parity, **about, gap=values, invariance=values, limit=values)),
    rates=st.lists(st.builds(Rate, **at, rows=estimates)),
    latencies=st.lists(st.builds(Latency, **at, p50=estimates, p99=estimates)),
    ratios=st.lists(
        st.builds(
            Ratio, **at, what=st.just("overlap"), base=st.just("1 stream"), value=estimates, target=st.none() | values
        )
    ),
    missing=st.just(("pycuda 7.5: not installed",)),
)


def numbers(text: str) -> set[float]:
    return {float(each) for each in NUMBER.findall(text)}


@given(found)
def test_no_figure_is_on_the_page_that_is_not_in_the_record(record: Record) -> None:
    record = msgspec.json.decode(msgspec.json.encode(record), type=Record)
    results = page.render(record).partition("## Results")[2]
    said = numbers(msgspec.json.encode(record).decode())
    assert numbers(re.sub("95 % intervals", "", results)) <= said


@given(found)
def test_every_figure_of_the_record_is_on_the_page(record: Record) -> None:
    results = numbers(page.render(record).partition("## Results")[2])
    for rate in record.rates:
        assert {rate.rows.value, rate.rows.low, rate.rows.high} <= results
    for each in record.latencies:
        assert {each.p50.value, each.p99.value} <= results
    for ratio in record.ratios:
        assert ratio.value.value in results
    for parity in record.parity:
        assert {parity.gap, parity.invariance, parity.limit} <= results


@given(found)
def test_whatever_misses_is_marked(record: Record) -> None:
    text = page.render(record)
    targets = [each for each in record.ratios if each.target is not None and each.value.value < each.target]
    bad = [each for each in record.parity if not each.good]
    assert text.count("**missed**") == len(targets) + len(bad)
    assert record.good == (not bad and all(each.good for each in record.checks))


def test_without_a_record_the_page_holds_no_figures_and_says_so() -> None:
    results = page.render(None).partition("## Results")[2]
    assert "No GPU was at hand" in results
    assert not numbers(results)


def test_the_page_that_is_here_is_that_of_the_record_that_is_here() -> None:
    kept = PAGE.with_suffix(".json")
    record = records.read(kept) if kept.exists() else None
    assert PAGE.read_text(encoding="utf-8") == page.render(record), "write it by: python -m benchmarks.gpu --write"


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    device = Device(name="A", capability="8.7", multiprocessors=16, memory=8.0, cuda="13.0")
    record = Record(date="2031-02-03", device=device, versions={}, lanes=3, rounds=1)
    records.write(record, tmp_path / "a.json")
    assert records.read(tmp_path / "a.json") == record
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"a\.json: no record"):
        records.read(tmp_path / "a.json")


def test_figures_have_the_digits_that_count() -> None:
    assert figure(Estimate(value=1234.56, low=0.00123456, high=None)) == Estimate(value=1235.0, low=0.001235)

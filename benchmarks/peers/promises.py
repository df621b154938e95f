"""Measure what we promise about speed, beside the peers, and write down what came out, met or missed.

    python benchmarks/peers/promises.py engines/minilm/1 [--short]

Three runs, one after the other on an otherwise idle machine: closed loops of all targets interleaved; an open loop at
70 % of the capacity just found; an open loop at three times of it. `--short` takes three rounds of three seconds and
leaves out the long texts: about eight minutes instead of half an hour.
Reports go to build/: promises-*.json and .html, and promises.md with the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import HERE, TextModel
from compare import peer
from rich.console import Console

from embedge_bench import report as html
from embedge_bench import results, stats
from embedge_bench.bench import bench
from embedge_bench.results import BenchReport, LoadSummary
from embedge_bench.settings import Settings
from embedge_bench.view import View, show

BUILD = HERE.parent.parent / "build"

PEERS, LIMITS = ["triton", "infinity"], ["in process", "ort one", "ort sorted"]
DEADLINE = 1.0
DEFAULTS: dict[str, Any] = {
    "workload": None,
    "concurrency": None,
    "rate": None,
    "arrivals": None,
    "batch": 1,
    "timeout": None,
    "duration": 4.0,
    "count": None,
    "rounds": 5,
    "warm_up": 1.0,
    "texts": 512,
    "json_field": "text",
    "seed": 0,
    "reference": None,
}


@dataclass(frozen=True)
class Promise:
    """One line of the table: what is promised, and what was measured."""

    what: str
    target: str
    measured: str
    met: bool | None

    def line(self) -> str:
        """Return the line of the Markdown table."""
        mark = {True: "met", False: "**missed**", None: ""}[self.met]
        return f"| {self.what} | {self.target} | {self.measured} | {mark} |"


def main() -> int:
    """Run all three, print and write the table."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    bundle, short = sys.argv[1], "--short" in sys.argv
    BUILD.mkdir(exist_ok=True)
    pace: dict[str, Any] = {"rounds": 3, "duration": 3.0, "workload": ["short", "mixed"]} if short else {}
    closed = closed_loops(bundle, pace)
    capacity = throughput(closed, "embedge", "mixed", 32)
    calm = run(
        "calm", [f"embedge=serve:{bundle}"], workload=["mixed"], rate=f"{0.7 * capacity:.1f}", duration=20.0, rounds=3
    )
    flood = run(
        "flood",
        [f"embedge=serve:{bundle}"],
        workload=["mixed"],
        rate=f"{3 * capacity:.1f}",
        timeout=DEADLINE,
        duration=10.0,
        rounds=6,
    )
    lines = [promise.line() for promise in (*speed(closed), *short_texts(closed, calm), *overload(flood, capacity))]
    table = "\n".join(["| promise | target | measured | |", "|---|---|---|---|", *lines, ""])
    (BUILD / "promises.md").write_text(table, encoding="utf-8")
    Console().print(table, markup=False)
    return 0


def closed_loops(bundle: str, pace: dict[str, Any]) -> BenchReport:
    """Measure everything side by side: one caller, and enough of them to saturate the machine."""
    model = TextModel.load(Path(bundle)).name
    with ExitStack() as stack:
        triton, pid = stack.enter_context(peer("triton.py", Path(bundle)))
        infinity, _ = stack.enter_context(peer("infinity.py", Path(bundle)))
        targets = [
            f"triton=oip://{triton}/{model}?pid={pid}",
            f"infinity=openai+http://{infinity}/v1?model={model}",
            f"embedge=serve:{bundle}",
            f"in process=inproc:{bundle}",
            f"ort one=ort:{bundle}?batch=1&threads=1",
            f"ort sorted=ort:{bundle}?batch=8&sort=1",
        ]
        options = {"workload": ["short", "mixed", "long"], "concurrency": "1,32", "against": "triton,infinity", **pace}
        return run("closed", targets, reference=Path(bundle), **options)


def run(name: str, targets: list[str], **options: Any) -> BenchReport:
    """Run a benchmark, show it, and write its report."""
    plan = Settings.of(targets, {**DEFAULTS, **options}).plan()
    with View(plan, Console(stderr=True)) as view:
        report = bench(plan, view, title=f"promises, {name}", command=f"python benchmarks/peers/promises.py ({name})")
    show(report, Console())
    results.write(report, BUILD / f"promises-{name}.json")
    html.write(report, BUILD / f"promises-{name}.html")
    return report


def speed(report: BenchReport) -> Iterator[Promise]:
    """Judge throughput, added latency and the start."""
    for workload, ours, theirs in (("short", 0.90, 1.6), ("mixed", 1.0, 2.0)):
        for bases, target, text in ((LIMITS, ours, "best in process"), (PEERS, theirs, "better peer")):
            ratio = next(
                each.value
                for each in stats.ratios(report.rounds, bases)
                if (each.target, each.workload, each.load.concurrency) == ("embedge", workload, 32)
                and each.figure == "throughput"
            )
            measured = f"{ratio.value:.2f} ({ratio.low or 0:.2f}-{ratio.high or 0:.2f})"
            yield Promise(
                f"throughput, of the {text}'s: {workload}", f">= {target:.2f}", measured, ratio.value >= target
            )
    added = p50(report, "embedge", "short", 1) - p50(report, "in process", "short", 1)
    yield Promise(
        "latency added by the server, p50, 1 client, short", "<= 0.6 ms", f"{added * 1e3:.2f} ms", added <= 6e-4
    )
    start = report.targets["embedge"].start_seconds or 0.0
    yield Promise(
        "from `embedge serve` to the first vector", "<= 1.5 s + warm-up (2 s)", f"{start:.1f} s", start <= 3.5
    )


def short_texts(closed: BenchReport, calm: BenchReport) -> Iterator[Promise]:
    """Judge the wait of short texts among long ones at 70 % of the capacity."""
    alone = row(closed, "in process", "mixed", 1)
    own, long = alone.short_latency["p50"].value, alone.latency["p99"].value
    measured, allowed = calm.rows[0].short_latency["p99"].value, 3 * own + long
    yield Promise(
        "p99 of the short texts, mixed, open loop at 70 %",
        f"<= 3x own + one long ({allowed * 1e3:.0f} ms)",
        f"{measured * 1e3:.0f} ms",
        measured <= allowed,
    )


def overload(report: BenchReport, capacity: float) -> Iterator[Promise]:
    """Judge the minute at three times the capacity."""
    flood = report.rows[0]
    in_time = sum(sum(latency <= DEADLINE for latency in each.latencies) for each in report.rounds)
    goodput = in_time / sum(each.seconds for each in report.rounds)
    refusal = flood.refusal_p99 or 0.0
    memory = [each.server.rss for each in report.rounds if each.server]
    yield Promise(
        "accepted and in time at 3x capacity, mixed",
        ">= 95 %",
        f"{100 * goodput / capacity:.0f} %",
        goodput >= 0.95 * capacity,
    )
    late = max((each.lag for each in report.rounds if each.lag is not None), default=0.0)
    yield Promise(
        "refusals answered in, p99",
        "< 10 ms",
        f"{refusal * 1e3:.1f} ms (the load generator itself sent up to {late * 1e3:.1f} ms late, p99)",
        refusal < 0.01,
    )
    growth = memory[-1] / memory[0] if memory else 1.0
    yield Promise("memory, last 10 s of the minute over the first", "flat", f"{growth:.2f}", growth < 1.05)


def row(report: BenchReport, target: str, workload: str, callers: int) -> LoadSummary:
    """Return a target's row."""
    return next(r for r in report.rows if (r.target, r.workload, r.load.concurrency) == (target, workload, callers))


def throughput(report: BenchReport, target: str, workload: str, callers: int) -> float:
    """Return embeddings a second."""
    return row(report, target, workload, callers).throughput.value


def p50(report: BenchReport, target: str, workload: str, callers: int) -> float:
    """Return the median latency in seconds."""
    return row(report, target, workload, callers).latency["p50"].value


if __name__ == "__main__":
    sys.exit(main())

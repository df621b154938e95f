"""What the terminal shows: a table that fills while the benchmark runs, and the ratios at its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import TracebackType

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from embedge_bench import stats
from embedge_bench.bench import Plan, Turn, turns
from embedge_bench.results import Estimate, Ratio, Report, Round, Row, Workload

# Seconds of lateness of the generator that a reader must know about.
_LATE = 0.005
# An interval wider than this factor says that there were too few rounds, and no more.
_WIDE = 10.0
# Names up to this length are shown in one piece.
_NAME = 16

__all__ = ["View", "ratio_table", "row_table", "show"]


class View:
    """The live view, in a `with` block. Where the output is no terminal, nothing is drawn before the end."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._workloads = {texts.name: texts.record() for texts in plan.workloads}
        self._targets = [spec.name for spec in plan.specs]
        self._rounds: list[Round] = []
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
        )
        self._task = self._progress.add_task("", total=sum(1 for _ in turns(plan)))
        self._live = Live(self._progress, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> View:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, error, at)

    def opening(self, target: str) -> None:
        """Say that a target is being opened."""
        self._progress.update(self._task, description=f"opening {target}")

    def begins(self, turn: Turn) -> None:
        """Say whose turn it is."""
        text = f"{turn.target} · {turn.workload} · {turn.load.label} · round {turn.number}"
        self._progress.update(self._task, description=text)

    def ended(self, turn: Turn, result: Round) -> None:
        """Draw the table with what came of it."""
        self._rounds.append(result)
        self._progress.advance(self._task)
        table = row_table(stats.rows(self._rounds, self._workloads, self._targets), self._workloads)
        self._live.update(Group(table, self._progress))


def show(report: Report, console: Console) -> None:
    """Print the rows, the ratios, and what a reader must know about them."""
    console.print(row_table(report.rows, report.workloads))
    if report.ratios:
        console.print(ratio_table(report.ratios))
    for line in _remarks(report):
        console.print(Text(line, style="dim"))


def _remarks(report: Report) -> Iterator[str]:
    """Yield what must be known to read the figures rightly."""
    for info in report.targets.values():
        if info.note:
            yield f"{info.name}: {info.note}"
    for workload in report.workloads.values():
        text = f"{workload.texts} texts, {workload.mean:.0f} {workload.unit} on average; {workload.source}"
        yield f"{workload.name}: {text}"
    for row in report.rows:
        lost = {"refused": row.refusals, **row.errors}
        text = ", ".join(f"{count:,} {kind}" for kind, count in lost.items() if count)
        if text:
            yield f"lost, {row.target}, {row.workload}, {row.load.label}: {text}"
    late = max((each.lag or 0.0 for each in report.rounds), default=0.0)
    if late > _LATE:
        yield f"the load generator itself was late by up to {late * 1e3:.0f} ms (p99); the latencies include that"
    if any(row.parity is None for row in report.rows):
        yield "no parity: nothing to compare the vectors with; name a bundle with --reference"


def row_table(rows: tuple[Row, ...], workloads: dict[str, Workload]) -> Table:
    """Return the table of figures; latencies in milliseconds. Columns that would be empty are left out."""
    table = Table(
        title="latencies, and CPU an embedding, in ms; cosine: the worst",
        title_justify="left",
        title_style="dim",
        box=box.SIMPLE,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    longest = max((len(row.target) for row in rows), default=0)
    table.add_column("target", overflow="fold", max_width=24, no_wrap=longest <= _NAME)
    columns = [name for name, cell in _CELLS.items() if any(cell(row) for row in rows)]
    shown = [*(("workload",) if len(workloads) > 1 else ()), "load"]
    for name in shown:
        table.add_column(name, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        place = {"workload": row.workload, "load": row.load.label}
        table.add_row(row.target, *(place[name] for name in shown), *(_CELLS[name](row) or "–" for name in columns))
    return table


def ratio_table(ratios: tuple[Ratio, ...]) -> Table:
    """Return the table of a comparison: over 1 is faster for throughput, and slower for latencies."""
    title = f"ratios to {ratios[0].base}, with 95 % intervals over rounds"
    table = Table(
        title=title, title_justify="left", title_style="dim", box=box.SIMPLE, show_edge=False, padding=(0, 1, 0, 0)
    )
    for name in ("target", "workload", "load"):
        table.add_column(name, no_wrap=True, min_width=6)
    figures = list(dict.fromkeys(ratio.figure for ratio in ratios))
    for name in figures:
        table.add_column(name, justify="right", no_wrap=True)
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for ratio in ratios:
        line = lines.setdefault((ratio.target, ratio.workload, ratio.load.label), {})
        line[ratio.figure] = _factor(ratio.value)
    for place, cells in lines.items():
        table.add_row(*place, *(cells.get(name, "–") for name in figures))
    return table


def _latency(name: str) -> Callable[[Row], str]:
    return lambda row: _milliseconds(row.latency[name].value) if name in row.latency else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


# What each column shows; nothing where the figure is not available.
_CELLS: dict[str, Callable[[Row], str]] = {
    "emb/s": lambda row: _spread(row.throughput),
    "p50": _latency("p50"),
    "p99": _latency("p99"),
    "pad": lambda row: _percent(row.padding_efficiency),
    "CPU": lambda row: f"{row.client_cpu_ms + (row.server_cpu_ms or 0.0):.1f}",
    "MB": lambda row: f"{row.rss / 1e6:.0f}",
    "J/1000": lambda row: "" if row.joules_per_thousand is None else f"{row.joules_per_thousand:.1f}",
    "lost": lambda row: str(row.refusals + sum(row.errors.values()) or ""),
    "cosine": lambda row: "" if row.parity is None else f"{row.parity.min_cosine:.6f}",
}


def _spread(estimate: Estimate) -> str:
    """Return `value ±reach`."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.0f}"
    return f"{estimate.value:.0f} ±{(estimate.high - estimate.low) / 2:.0f}"


def _factor(estimate: Estimate) -> str:
    """Return `value ±percent`, the percentage being a factor: 1.00 ±25% reaches from 1 / 1.25 to 1.25."""
    if not estimate.low or not estimate.high:
        return f"{estimate.value:.2f}"
    reach = math.sqrt(estimate.high / estimate.low) - 1
    return f"{estimate.value:.2f} ±{reach:.0%}" if reach < _WIDE else f"{estimate.value:.2f} ±?"

"""The terminal view: a table that fills during the benchmark, and the ratios at its end."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from embedge_bench import stats
from embedge_bench.bench import BenchPlan, Turn, turns
from embedge_bench.results import BenchReport, Round
from embedge_bench.tables import ratio_table, row_table

# Seconds of generator lateness worth a note.
_LATE = 0.005

__all__ = ["View", "show"]


class View:
    """The live view, in a `with` block. Without a terminal, nothing is drawn before the end."""

    def __init__(self, plan: BenchPlan, console: Console) -> None:
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
        """Show the target being opened."""
        self._progress.update(self._task, description=f"opening {target}")

    def begins(self, turn: Turn) -> None:
        """Show the current turn."""
        text = f"{turn.target} · {turn.workload} · {turn.load.label} · round {turn.number}"
        self._progress.update(self._task, description=text)

    def ended(self, turn: Turn, result: Round) -> None:
        """Draw the table with the new result."""
        self._rounds.append(result)
        self._progress.advance(self._task)
        rows = stats.rows(self._rounds, self._workloads, self._targets)
        table = row_table(rows, self._workloads, self._live.console.width)
        self._live.update(Group(table, self._progress))


def show(report: BenchReport, console: Console) -> None:
    """Print the rows, the ratios, and notes on them."""
    console.print(row_table(report.rows, report.workloads, console.width), crop=False)
    if report.ratios:
        console.print(ratio_table(report.ratios, console.width), crop=False)
    for line in _remarks(report):
        console.print(Text(line, style="dim"))


def _remarks(report: BenchReport) -> Iterator[str]:
    """Yield notes needed to read the numbers correctly."""
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
    if report.ratios and report.own_loads:
        names = ", ".join(report.own_loads)
        yield f"no ratios of latencies where {names} had a load of its own, whatever was asked for"
    late = max((each.lag or 0.0 for each in report.rounds), default=0.0)
    if late > _LATE:
        yield f"the load generator itself was late by up to {late * 1e3:.0f} ms (p99); the latencies include that"
    if any(row.parity is None for row in report.rows):
        yield "no parity: nothing to compare the vectors with; name a bundle with --reference"

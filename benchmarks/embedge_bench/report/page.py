"""From a report's records to the page: its charts and tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import groupby
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from embedge_bench import stats
from embedge_bench.report import charts, still, units
from embedge_bench.results import BenchReport, Load, LoadSummary, Round

__all__ = ["html", "write"]

_PALETTE = 8
_LEARNED = (
    "As it was learned. Figures never fall as rows or length grow, so there are plateaus; "
    "rungs that were not measured follow in proportion."
)


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """A chart with its heading. `kind` is its subject in a word."""

    kind: str
    title: str
    svg: Markup
    note: str = ""
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """All of one workload."""

    name: str
    figures: list[ReportFigure]
    rows: list[LoadSummary]


def write(report: BenchReport, path: Path) -> None:
    """Write the page."""
    path.write_text(html(report), encoding="utf-8")


def html(report: BenchReport) -> str:
    """Return the page: one file, nothing fetched."""
    colours = {name: f"s{number % _PALETTE}" for number, name in enumerate(report.targets)}
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    files = resources.files("embedge_bench.report")
    return jinja.from_string((files / "page.html.j2").read_text("utf-8")).render(
        report=report,
        colours=colours,
        units=units,
        style=Markup((files / "page.css").read_text("utf-8")),
        script=Markup((files / "page.js").read_text("utf-8")),
        reach=_reach(report.rows) if report.rows else "",
        comparisons=list(_comparisons(report, colours)),
        sections=[_section(report, name, colours) for name in report.workloads],
        costs=list(_costs(report)),
    )


def _section(report: BenchReport, name: str, colours: charts.Colours) -> Section:
    rows = [row for row in report.rows if row.workload == name]
    rounds = [each for each in report.rounds if each.workload == name]
    figures = [*_curves(rows, colours), *_distributions(rounds, colours), *_timelines(rounds, colours)]
    told = [row for row in rows if row.padding_efficiency is not None]
    if told:
        silent = sorted({row.target for row in rows} - {row.target for row in told})
        figures.append(_figure("padding", "Padding efficiency", still.padding(told, colours), _silent(silent)))
    workload = report.workloads[name]
    note = f"{workload.texts:,} texts: {workload.mean:.0f} {workload.unit} on average, half of them under "
    note += f"{workload.median:.0f}, the longest {workload.largest:,}"
    figures.append(_figure("sizes", "Sizes of the texts", still.sizes(workload), note))
    return Section(name, figures, rows)


def _curves(rows: Sequence[LoadSummary], colours: charts.Colours) -> Iterator[ReportFigure]:
    if any(row.latency for row in rows):
        for figure in ("p50", "p99"):
            note = f"Right and low is better. Each point is a load; bars: {_reach(rows)}; open loops are hollow."
            title = f"Latency ({figure}) against throughput"
            yield _figure("curve", title, charts.curve(rows, figure, colours), note)


def _distributions(rounds: Sequence[Round], colours: charts.Colours) -> Iterator[ReportFigure]:
    for load, group in _by_load(rounds):
        if any(each.latencies for each in group):
            counted = "from the intended start" if load.kind == "open" else "from the moment of sending"
            title = f"Latency distribution, {load.label}"
            yield _figure("distribution", title, charts.distribution(group, colours), f"All rounds; counted {counted}.")


def _timelines(rounds: Sequence[Round], colours: charts.Colours) -> Iterator[ReportFigure]:
    """Yield the last round of each target with a visible queue, under the load with the longest queues."""
    load, group = max(_by_load(rounds), key=lambda found: _fullest(found[1]))
    latest = {each.target: each for each in group}
    last = {name: latest[name] for name in colours if name in latest}
    silent = _silent(sorted(name for name, each in last.items() if _fullest([each]) < 0))
    seen = [(name, each) for name, each in last.items() if _fullest([each]) >= 0]
    for name, each in seen:
        note = f"Round {each.number}, {load.label}. {silent}"
        yield _figure("timeline", f"Queue and batch sizes of {name}", charts.timeline(each, colours[name]), note)


def _fullest(rounds: Iterable[Round]) -> float:
    """Return the largest observed queue in items, or -1 without observations."""
    return max((moment.queue for each in rounds for moment in each.timeline if moment.queue is not None), default=-1.0)


def _comparisons(report: BenchReport, colours: charts.Colours) -> Iterator[ReportFigure]:
    for name in report.workloads:
        found = [ratio for ratio in report.ratios if ratio.workload == name]
        found.sort(key=lambda ratio: (_order(ratio.load), list(colours).index(ratio.target)))
        if found:
            title = f"{name.capitalize()}: ratios to {found[0].base}"
            reach = stats.spread(max(len(ratio.rounds) for ratio in found))
            note = f"A faint dot is a round, the large one their geometric mean; bars: {reach}. {_own(report)}"
            yield _figure("ratios", title, charts.ratios(found, colours), note, wide=True)


def _costs(report: BenchReport) -> Iterator[ReportFigure]:
    for name, cells in report.costs.items():
        yield _figure("cost", f"Cost table of {name}", still.heat(cells), _LEARNED, wide=True)


def _by_load(rounds: Iterable[Round]) -> Iterator[tuple[Load, list[Round]]]:
    for _, group in groupby(sorted(rounds, key=lambda each: _order(each.load)), key=lambda each: each.load):
        found = list(group)
        yield found[0].load, found


def _order(load: Load) -> tuple[str, float, int, str]:
    return load.kind, float(load.concurrency or load.rate or 0), load.batch, load.label


def _figure(kind: str, title: str, svg: str, note: str = "", *, wide: bool = False) -> ReportFigure:
    return ReportFigure(kind, title, Markup(svg), note.strip(), wide)


def _reach(rows: Sequence[LoadSummary]) -> str:
    """Describe the intervals of the rows."""
    return stats.spread(max(row.rounds for row in rows))


def _own(report: BenchReport) -> str:
    """Return why some ratios are missing."""
    names = ", ".join(report.own_loads)
    return f"No latencies where {names} had a load of its own; see its note below." if names else ""


def _silent(names: Sequence[str]) -> str:
    return f"Not available from {', '.join(names)}." if names else ""

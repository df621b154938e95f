"""The terminal's tables. Numbers are never truncated: without room for all columns, the lesser ones are left out.

Intervals stand below their numbers, and the workload below the load, to save columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from embedge_bench import stats
from embedge_bench.results import Estimate, Load, LoadSummary, Ratio, Workload

__all__ = ["ratio_table", "row_table"]

# Names and loads get at least this many characters, if they are so long; the rest is folded.
_NAME = 16
_GAP = 2
# Columns left out without room, in this order.
_LESSER = ("J/1000", "MB", "pad", "CPU")


def row_table(rows: Sequence[LoadSummary], workloads: dict[str, Workload], width: int) -> Table:
    """Return the table of results, in `width` characters if possible; latencies in milliseconds.

    Empty columns are left out.
    """
    targets = [row.target for row in rows]
    loads = [_place(row.load, row.workload, len(workloads)) for row in rows]
    all_columns = {name: [cell(row) for row in rows] for name, cell in _CELLS.items()}
    told = {name: cells for name, cells in all_columns.items() if any(cells)}
    names = (["target", *targets], ["load", *loads])
    kept = _fitting(told, width - sum(min(_NAME, _wide(cells)) + _GAP for cells in names))
    missing = ", ".join(name for name in told if name not in kept)
    table = _table(
        f"latencies, and CPU an embedding, in ms; cosine: the worst{_legend(max((r.rounds for r in rows), default=1))}",
        f"no room for {missing}; a wider terminal has it" if missing else "",
    )
    _fill(table, targets, loads, {name: told[name] for name in kept}, width)
    return table


def ratio_table(ratios: Sequence[Ratio], width: int) -> Table:
    """Return the table of a comparison: over 1 is faster for throughput, and slower for latencies."""
    count = max(len(ratio.rounds) for ratio in ratios)
    workloads = len({ratio.workload for ratio in ratios})
    figures = list(dict.fromkeys(ratio.figure for ratio in ratios))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for ratio in ratios:
        line = lines.setdefault((ratio.target, _place(ratio.load, ratio.workload, workloads)), {})
        line[ratio.figure] = _reach(ratio.value, lambda value: f"{value:.2f}")
    columns = {name: [line.get(name, "") for line in lines.values()] for name in figures}
    table = _table(f"ratios to {ratios[0].base}{_legend(count)}", "")
    _fill(table, [target for target, _ in lines], [load for _, load in lines], columns, width)
    return table


def _table(title: str, caption: str) -> Table:
    return Table(
        title=title,
        caption=caption or None,
        title_justify="left",
        caption_justify="left",
        title_style="dim",
        caption_style="dim",
        box=box.SIMPLE,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds one
    )


def _fill(
    table: Table, targets: Sequence[str], loads: Sequence[str], figures: dict[str, list[str]], width: int
) -> None:
    """Give the numbers the room they need, and the rest to the names."""
    places = {"load": min(_NAME, _wide(["load", *loads]))}
    needed = sum(_wide([name, *cells]) + _GAP for name, cells in figures.items())
    room = max(_NAME, width - needed - places["load"] - _GAP - _GAP)
    table.add_column("target", overflow="fold", max_width=room)
    table.add_column("load", overflow="fold", min_width=places["load"], max_width=places["load"])
    for name, cells in figures.items():
        table.add_column(name, justify="right", no_wrap=True, min_width=_wide([name, *cells]))
    for target, load, *cells in zip(targets, loads, *figures.values(), strict=True):
        table.add_row(target, *(_two_lines(cell or "–") for cell in (load, *cells)))


def _fitting(columns: dict[str, list[str]], room: int) -> list[str]:
    """Return the names of the kept columns."""
    kept = list(columns)
    for name in _LESSER:
        if sum(_wide([each, *columns[each]]) + _GAP for each in kept) <= room:
            break
        kept = [each for each in kept if each != name]
    return kept


def _wide(cells: Sequence[str]) -> int:
    return max((cell_len(line) for cell in cells for line in cell.splitlines()), default=0)


def _two_lines(cell: str) -> Text:
    first, mark, second = cell.partition("\n")
    return Text.assemble(first, (f"{mark}{second}", "dim"))


def _legend(rounds: int) -> str:
    return f"; below figures: {stats.spread(rounds)}" if rounds > 1 else ""


def _place(load: Load, workload: str, workloads: int) -> str:
    return f"{load.label}\n{workload}" if workloads > 1 else load.label


def _latency(name: str) -> Callable[[LoadSummary], str]:
    return lambda row: _milliseconds(row.latency[name].value) if name in row.latency else ""


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _speed(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _reach(estimate: Estimate, form: Callable[[float], str]) -> str:
    """Return the value and, below it, from where to where it reaches."""
    if estimate.low is None or estimate.high is None:
        return form(estimate.value)
    return f"{form(estimate.value)}\n{form(estimate.low)}–{form(estimate.high)}"


# The content of each column; empty if not available.
_CELLS: dict[str, Callable[[LoadSummary], str]] = {
    "emb/s": lambda row: _reach(row.throughput, _speed),
    "p50": _latency("p50"),
    "p99": _latency("p99"),
    "pad": lambda row: _percent(row.padding_efficiency),
    "CPU": lambda row: f"{row.client_cpu_ms + (row.server_cpu_ms or 0.0):.1f}",
    "MB": lambda row: f"{row.rss / 1e6:.0f}",
    "J/1000": lambda row: "" if row.joules_per_thousand is None else f"{row.joules_per_thousand:.1f}",
    "lost": lambda row: str(row.refusals + sum(row.errors.values()) or ""),
    "cosine": lambda row: "" if row.parity is None else f"{row.parity.min_cosine:.6f}",
}

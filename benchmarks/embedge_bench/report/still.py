"""Charts without a time axis: padding, text sizes, and the cost table."""

from __future__ import annotations

import math
from collections.abc import Sequence

from embedge_bench.report import units
from embedge_bench.report.charts import HALF, WIDE, Colours
from embedge_bench.report.svg import Plot, Scale, linear
from embedge_bench.results import CostCells, LoadSummary, Workload

__all__ = ["heat", "padding", "sizes"]


def padding(rows: Sequence[LoadSummary], colours: Colours) -> str:
    """Draw the share of real tokens among computed ones: a bar per target and load."""
    height = 52 + 24 * len(rows)
    plot = Plot(HALF, height, "Padding efficiency")
    x = Scale(0.0, 1.0, 190, HALF - 60, (0.0, 0.25, 0.5, 0.75, 1.0))
    plot.axis_x(x, height - 44, 2, lambda share: f"{100 * share:g} %", "real tokens of those computed")
    for number, row in enumerate(rows):
        y, share = 4 + 24 * number, row.padding_efficiency or 0.0
        plot.text(0, y + 14, units.short(row.target, 15), f"name {colours[row.target]}")
        plot.text(x.start - 10, y + 14, row.load.label, "tick", "end")
        tip = f"{row.target}, {row.load.label}\n{units.percent(share)} of the computed tokens were real"
        plot.box(x.start, y, x(share) - x.start, 18, f"bar mark {colours[row.target]}", tip, rx="2")
        plot.text(x.end + 8, y + 14, units.percent(share), "figure")
    return plot.markup()


def sizes(workload: Workload) -> str:
    """Draw the histogram of the texts' sizes."""
    plot = Plot(HALF, 270, f"Sizes of the texts of {workload.name}")
    edges, counts = workload.sizes.edges, workload.sizes.counts
    x, y = _over(edges, 44, HALF - 16), linear(counts, 222, 34, count=4)
    plot.axis_y(y, x.start, x.end, units.tick, "texts")
    plot.axis_x(x, y.start, y.start, units.tick, workload.unit)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        tip = f"{low:.0f} to {high:.0f} {workload.unit}\n{count:,} texts"
        left, width = x(low) + 0.5, max(1.0, x(high) - x(low) - 1)
        plot.box(left, y(count), width, y.start - y(count), "bar mark plain", tip)
    return plot.markup()


def heat(cells: CostCells) -> str:
    """Draw a cost table: rows of a batch (down) by its length (across), darker where a batch takes longer."""
    left, top, high = 64.0, 34.0, 30.0
    wide = (WIDE - left - 10) / len(cells.lengths)
    plot = Plot(WIDE, top + high * len(cells.rows) + 26, "Cost table")
    known = [math.log(value) for line in cells.seconds for value in line if value > 0]
    low, span = min(known), (max(known) - min(known)) or 1.0
    plot.text(left, top - 14, "milliseconds of a batch; down: its rows, across: its length in tokens", "title")
    for i, (rows, line) in enumerate(zip(cells.rows, cells.seconds, strict=True)):
        plot.text(left - 10, top + high * i + 19, f"{rows:,}", "tick", "end")
        for j, (length, seconds) in enumerate(zip(cells.lengths, line, strict=True)):
            share = (math.log(seconds) - low) / span if seconds > 0 else 0.0
            x, y, tip = left + wide * j, top + high * i, _cost(rows, length, seconds)
            plot.box(x, y, wide - 2, high - 2, "cell mark", tip, rx="3", style=f"--share: {100 * share:.0f}%")
            strong = "celltext strong" if share > 0.55 else "celltext"
            plot.text(x + wide / 2 - 1, y + 19, units.digits(seconds * 1e3), strong, "middle")
    for j, length in enumerate(cells.lengths):
        plot.text(left + wide * (j + 0.5), top + high * len(cells.rows) + 16, f"{length:,}", "tick", "middle")
    return plot.markup()


def _cost(rows: int, length: int, seconds: float) -> str:
    each = f"{units.time(seconds / rows)} a row, {units.digits(rows * length / seconds if seconds else 0)} tokens/s"
    return f"{rows:,} rows × {length:,} tokens\n{units.time(seconds)}\n{each}"


def _over(edges: Sequence[float], start: float, end: float) -> Scale:
    """Return a scale from the first edge to the last, with round ticks in between."""
    ticks = tuple(tick for tick in linear([edges[-1]], start, end).ticks if edges[0] <= tick <= edges[-1])
    return Scale(edges[0], edges[-1], start, end, ticks)

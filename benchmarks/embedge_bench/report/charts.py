"""The pictures of the loads: throughput against latency, the latency distribution, the run over time, ratios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np

from embedge_bench.report import units
from embedge_bench.report.svg import Plot, Point, Scale, linear, log, spread, tail
from embedge_bench.results import LoadSummary, Moment, Ratio, Round

__all__ = ["curve", "distribution", "ratios", "timeline"]

Colours = Mapping[str, str]
"""The colour class of each target, by name."""

WIDE, HALF = 1040.0, 500.0
_SHARES = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)


def curve(rows: Sequence[LoadSummary], figure: str, colours: Colours) -> str:
    """Draw throughput (x) against a latency percentile (y): a line for each target and kind of load."""
    rows = [row for row in rows if row.latency]
    plot = Plot(HALF, 330, f"Throughput against {figure} latency")
    x = linear([row.throughput.value for row in rows], 60, HALF - 95)
    y = log([row.latency[figure].value for row in rows], 282, 34)
    plot.axis_y(y, x.start, x.end, units.time_tick, f"{figure} latency, log")
    plot.axis_x(x, y.start, y.end, units.tick, "embeddings a second")
    ends: dict[str, Point] = {}
    for (target, kind), group in groupby(sorted(rows, key=_line_key), key=lambda row: (row.target, row.load.kind)):
        points = list(group)
        places = [(x(row.throughput.value), y(row.latency[figure].value)) for row in points]
        plot.line(places, f"{colours[target]} {kind}")
        for row, place in zip(points, places, strict=True):
            _interval(plot, x, row, place[1], colours[target])
            plot.dot(*place, f"{colours[target]} {kind}", _tip(row))
        ends.setdefault(target, places[-1])  # closed loops come first
    _label_ends(plot, ends, colours, x.end + 10, y)
    return plot.markup()


def distribution(rounds: Sequence[Round], colours: Colours) -> str:
    """Draw latency (y) by the share of faster requests (x), for the rounds of one load."""
    latencies = {
        target: np.concatenate([each.latencies for each in group])
        for target, group in _by_target(rounds).items()
        if any(each.latencies for each in group)
    }
    most = max(len(values) for values in latencies.values())
    plot = Plot(HALF, 330, "Latency by share of requests")
    x = tail(min(0.9999, 1 - 1 / max(10, most)), 60, HALF - 95)
    y = log([float(value) for values in latencies.values() for value in np.quantile(values, (0.02, 1))], 282, 34)
    plot.axis_y(y, x.start, x.end, units.time_tick, "latency, log")
    plot.axis_x(
        x, y.start, y.end, lambda share: f"{100 * share:g} %", "requests that were at least this fast, log tail"
    )
    ends: dict[str, Point] = {}
    for target, values in latencies.items():
        last = 1 - 1 / len(values)
        shares = [*(share for share in _grid() if share < min(last, x.high)), min(last, x.high)]
        places = [(x(share), y(float(value))) for share, value in zip(shares, np.quantile(values, shares), strict=True)]
        plot.line(places, colours[target])
        for share in (share for share in _SHARES[4:] if share <= last and share <= x.high):
            value = float(np.quantile(values, share))
            tip = f"{target}\np{100 * share:g}: {units.time(value)}\n{len(values):,} requests"
            plot.dot(x(share), y(value), colours[target], tip, r=2.5)
        ends[target] = places[-1]
    _label_ends(plot, ends, colours, x.end + 10, y)
    return plot.markup()


def timeline(each: Round, colour: str) -> str:
    """Draw one round over time: items inside (above) and rows a batch (below)."""
    plot = Plot(HALF, 270, f"Queue and batch sizes of {each.target} over time")
    x = _span(each.timeline, 60, HALF - 16)
    queue = [(moment.at, moment.queue) for moment in each.timeline if moment.queue is not None]
    rows = [(moment.at, moment.rows) for moment in each.timeline if moment.rows is not None]
    above, below = linear([v for _, v in queue], 124, 34, count=3), linear([v for _, v in rows], 222, 166, count=2)
    plot.axis_x(x, below.start, below.end, units.tick, "seconds into the round")
    for scale, values, title in ((above, queue, "items waiting or running"), (below, rows, "rows a batch, mean")):
        plot.axis_y(scale, x.start, x.end, units.tick, title)
        if values:
            places = [(x(at), scale(value)) for at, value in values]
            plot.area(places, scale.start, colour)
            plot.line(places, f"{colour} thin")
    width = (x.end - x.start) / max(1, len(each.timeline))
    for moment in each.timeline:
        left, height = x(moment.at) - width / 2, below.start - above.end
        plot.box(left, above.end, width, height, "hit column", _moment(moment))
    return plot.markup()


def ratios(found: Sequence[Ratio], colours: Colours) -> str:
    """Draw one workload's ratios: a row for each load and target, a column for each figure."""
    rows = list(dict.fromkeys((ratio.load, ratio.target) for ratio in found))
    figures = list(dict.fromkeys(ratio.figure for ratio in found))
    bottom = 36.0 + 24 * len(rows)
    plot = Plot(WIDE, bottom + 30, "Ratios to the base target")
    for number, (load, target) in enumerate(rows):
        if number and load != rows[number - 1][0]:
            plot.add("line", x1=0, x2=WIDE, y1=_row_at(number) - 12, y2=_row_at(number) - 12, cls="grid")
        if not number or load != rows[number - 1][0]:
            plot.text(0, _row_at(number) + 4, load.label, "tick")
        plot.text(110, _row_at(number) + 4, units.short(target, 15), f"name {colours[target]}")
    width = (WIDE - 230) / len(figures)
    for number, figure in enumerate(figures):
        column = [ratio for ratio in found if ratio.figure == figure]
        x = _column(plot, column, 230 + number * width, width - 80, bottom)
        for ratio in column:
            _ratio(plot, x, ratio, _row_at(rows.index((ratio.load, ratio.target))), colours[ratio.target])
    return plot.markup()


def _column(plot: Plot, ratios: Sequence[Ratio], left: float, width: float, bottom: float) -> Scale:
    """Draw the heading and the axis of one figure; return its scale."""
    values = [value for ratio in ratios for value in (*ratio.rounds, ratio.value.value)]
    reach = [1.0, *(value * 0.97 for value in values), *(value * 1.03 for value in values)]
    x = log(reach, left, left + width, gap=38)
    throughput = ratios[0].figure == "throughput"
    plot.text(left, 12, "throughput" if throughput else f"{ratios[0].figure} latency", "figure")
    plot.text(x.end, 12, "right is better" if throughput else "left is better", "tick", "end")
    plot.axis_x(x, bottom, 24, lambda value: f"{value:g}×", "")
    plot.add("line", x1=x(1), x2=x(1), y1=24, y2=bottom, cls="one")
    return x


def _row_at(number: int) -> float:
    return 40.0 + 24 * number


def _ratio(plot: Plot, x: Scale, ratio: Ratio, y: float, colour: str) -> None:
    """Draw each round as a faint dot, their mean and its interval on top."""
    for number, each in enumerate(ratio.rounds, start=1):
        plot.dot(x(each), y, f"{colour} faint", f"round {number}: {each:.2f}×", r=3)
    value, tip = ratio.value, f"{ratio.target} over {ratio.base}\n{ratio.figure}: {ratio.value.value:.2f}×"
    if value.low is not None and value.high is not None:
        plot.add("line", x1=x(value.low), x2=x(value.high), y1=y, y2=y, cls=f"whisker {colour}")
        tip += f"\n{units.interval(value, lambda v: f'{v:.2f}×')}"
    plot.dot(x(value.value), y, colour, tip, r=5.5)
    plot.text(x.end + 12, y + 4, f"{value.value:.2f}×", "figure")


def _line_key(row: LoadSummary) -> tuple[str, str, float]:
    return row.target, row.load.kind, float(row.load.concurrency or row.load.rate or 0)


def _interval(plot: Plot, x: Scale, row: LoadSummary, y: float, colour: str) -> None:
    if row.throughput.low is not None and row.throughput.high is not None:
        plot.add("line", x1=x(row.throughput.low), x2=x(row.throughput.high), y1=y, y2=y, cls=f"whisker {colour}")


def _tip(row: LoadSummary) -> str:
    found = [row.target, row.load.label, f"{units.digits(row.throughput.value)} embeddings/s"]
    return "\n".join([*found, *(f"{name}: {units.time(value.value)}" for name, value in row.latency.items())])


def _label_ends(plot: Plot, ends: Mapping[str, Point], colours: Colours, x: float, y: Scale) -> None:
    """Label each line at the right edge, near the height of its end."""
    places = spread([place for _, place in ends.values()], 16, y.end, y.start)
    for target, place in zip(ends, places, strict=True):
        plot.text(x, place + 4, units.short(target, 11), f"name {colours[target]}")


def _grid() -> list[float]:
    return [1 - 10 ** (-step / 20) for step in range(81)]


def _by_target(rounds: Sequence[Round]) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {}
    for each in rounds:
        found.setdefault(each.target, []).append(each)
    return found


def _span(moments: Sequence[Moment], start: float, end: float) -> Scale:
    last = max(moment.at for moment in moments)
    scale = linear([last], start, end)
    return Scale(0.0, last, start, end, tuple(tick for tick in scale.ticks if tick <= last)) if last else scale


def _moment(moment: Moment) -> str:
    facts = (("items inside", moment.queue), ("rows a batch", moment.rows))
    found = [f"at {moment.at:.1f} s", *(f"{name}: {units.digits(value)}" for name, value in facts if value is not None)]
    return "\n".join(found if moment.rss is None else [*found, f"resident: {units.megabytes(moment.rss)}"])

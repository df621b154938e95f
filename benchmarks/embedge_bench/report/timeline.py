"""The picture of a trace: a row for each track, a box for each span, time from left to right."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from embedge.errors import EmbedgeError, InvalidInput
from embedge_bench.report import units
from embedge_bench.report.charts import Colours
from embedge_bench.report.svg import Plot, Scale, linear
from embedge_bench.spans import Box, Track, busy

__all__ = ["SUFFIXES", "picture", "write"]

SUFFIXES = (".svg", ".html", ".png")
_WIDTH, _LEFT, _RIGHT = 1400.0, 190.0, 1310.0
_LEVEL, _GAP, _TOP = 20.0, 10.0, 44.0
_PALETTE = 8
_SEEN = 2.0  # pixels: narrower spans are drawn as shares of columns of this width
_LETTER = 6.4  # pixels, on average

"""The colour class of each span, by name."""


def write(tracks: Sequence[Track], path: Path, title: str) -> None:
    """Write the picture in the format of the file's suffix. Raises InvalidInput for another, EmbedgeError."""
    if path.suffix not in SUFFIXES:
        raise InvalidInput(f"{path}: a timeline is written as one of {', '.join(SUFFIXES)}")
    plot = picture(tracks, title)
    files = resources.files("embedge_bench.report")
    style = (files / "timeline.css").read_text("utf-8")
    if path.suffix == ".html":
        script = (files / "page.js").read_text("utf-8")
        path.write_text(_page(plot.markup(), title, style, script), encoding="utf-8")
    elif path.suffix == ".svg":
        path.write_text(plot.document(style), encoding="utf-8")
    else:
        _photograph(plot, style, path)


def picture(tracks: Sequence[Track], title: str) -> Plot:
    """Draw the non-empty tracks; the axis begins at their first span."""
    first = min(box.start for track in tracks for box in track.boxes)
    last = max(box.end for track in tracks for box in track.boxes)
    colours = _colours(tracks)
    legend = list(_legend(colours))
    top = _TOP + 22 * (1 + legend[-1][2]) + 14
    heights = [_LEVEL * (1 + max(box.depth for box in track.boxes)) for track in tracks]
    bottom = top + sum(heights) + _GAP * len(tracks)
    plot = Plot(_WIDTH, bottom + 52, title)
    plot.text(24, 30, title, "heading")
    for name, x, line in legend:
        plot.add("rect", x=x, y=_TOP + 22 * line, width=12, height=12, rx=2, cls=f"span {colours[name]}")
        plot.text(x + 18, _TOP + 10 + 22 * line, name)
    scale = _axis(plot, last - first, top, bottom)
    plot.text(_RIGHT + 12, top - 6, "busy", "title")
    y = top
    for track, height in zip(tracks, heights, strict=True):
        _row(plot, track, y, height, (first, last), scale, colours)
        y += height + _GAP
    plot.text(_RIGHT, bottom + 44, f"milliseconds from {1000 * first:,.1f} ms into the trace", "title", "end")
    return plot


def _axis(plot: Plot, seconds: float, top: float, bottom: float) -> Scale:
    """Draw lines at round times; return the scale of seconds."""
    length = max(seconds, 1e-9)
    ticks = tuple(tick for tick in linear([length * 1e3], _LEFT, _RIGHT, count=10).ticks if tick <= length * 1e3)
    scale = Scale(0.0, length * 1e3, _LEFT, _RIGHT, ticks)
    plot.axis_x(scale, bottom, top, units.tick, "")
    return Scale(0.0, length, _LEFT, _RIGHT, ())


def _row(
    plot: Plot, track: Track, y: float, height: float, reach: tuple[float, float], x: Scale, colours: Colours
) -> None:
    plot.add("rect", x=_LEFT, y=y, width=_RIGHT - _LEFT, height=height, cls="lane", fill_opacity=0.6)
    plot.text(_LEFT - 12, y + 14, units.short(track.name, 26), "track", "end")
    share = busy(track) / max(reach[1] - reach[0], 1e-9)
    plot.text(_RIGHT + 12, y + 14, f"{100 * share:.0f} %", "tick")
    least = (reach[1] - reach[0]) * _SEEN / (_RIGHT - _LEFT)
    for box in track.boxes:
        if box.end - box.start >= least:
            _box(plot, box, x, reach[0], y + _LEVEL * box.depth, colours[box.name])
    _columns(plot, [box for box in track.boxes if box.end - box.start < least], x, reach[0], y, colours)


def _box(plot: Plot, box: Box, x: Scale, first: float, y: float, colour: str) -> None:
    left, right = x(box.start - first), x(box.end - first)
    times = f"{units.time(box.end - box.start)}, {1000 * (box.start - first):,.3f} ms in"
    tip = "\n".join([box.name, times, *(f"{key}: {value}" for key, value in box.facts.items())])
    plot.box(left, y + 1, right - left, _LEVEL - 2, f"span mark {colour}", tip, rx="1.5")
    if right - left > _LETTER * len(box.name) + 8:
        plot.text(left + 4, y + 14, box.name, "inside")


def _columns(plot: Plot, boxes: Sequence[Box], x: Scale, first: float, y: float, colours: Colours) -> None:
    """Draw the narrow spans: each name's height is its share of the column's time."""
    taken: defaultdict[tuple[int, int], defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    for box in boxes:
        taken[int((x(box.start - first) - _LEFT) / _SEEN), box.depth][box.name] += box.end - box.start
    seconds = x.high * _SEEN / (_RIGHT - _LEFT)
    for (column, depth), names in taken.items():
        base, room = y + _LEVEL * (depth + 1) - 1, _LEVEL - 2
        scale = room / max(seconds, sum(names.values()))  # the last span of a column may reach into the next
        for name in sorted(names, key=colours.__getitem__):
            height = max(0.4, names[name] * scale)
            base -= height
            tip = f"{name}\n{100 * names[name] / seconds:.0f} % of {units.time(seconds)}"
            plot.box(_LEFT + column * _SEEN, base, _SEEN, height, f"share mark {colours[name]}", tip)


def _colours(tracks: Sequence[Track]) -> dict[str, str]:
    """Return a colour for each name, the longest first; all after the seventh share one."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for track in tracks:
        for box in track.boxes:
            seconds[box.name] += box.end - box.start
    names = sorted(seconds, key=lambda name: (-seconds[name], name))
    return {name: f"s{min(number, _PALETTE - 1)}" for number, name in enumerate(names)}


def _legend(colours: Colours) -> Iterator[tuple[str, float, int]]:
    """Yield each name with its place: pixels from the left, and line."""
    x, line = 24.0, 0
    for name in colours:
        width = 40 + _LETTER * len(name)
        if x + width > _WIDTH - 24:
            x, line = 24.0, line + 1
        yield name, x, line
        x += width


def _page(svg: str, title: str, style: str, script: str) -> str:
    from jinja2 import Environment
    from markupsafe import Markup

    return (
        Environment(autoescape=True)
        .from_string(_PAGE)
        .render(svg=Markup(svg), title=title, style=Markup(style), script=Markup(script))
    )


def _photograph(plot: Plot, style: str, path: Path) -> None:
    """Have a browser render the picture, at two pixels a unit."""
    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise EmbedgeError(f"{path}: a PNG is drawn by Chromium, which is not here; write .svg or .html instead")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "timeline.svg")
        page.write_text(plot.document(style), encoding="utf-8")
        size = f"--window-size={plot.width:.0f},{plot.height:.0f}"
        command = [browser, *_FLAGS, size, f"--user-data-dir={folder}/profile", f"--screenshot={path.resolve()}"]
        try:
            done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired as error:
            raise EmbedgeError(f"{path}: Chromium drew nothing within 60 s; write .svg or .html instead") from error
    if done.returncode:
        raise EmbedgeError(f"{path}: Chromium failed: {done.stderr.strip()[-200:]}; write .svg or .html instead")


_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=2")
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{{ title }}</title><style>
body { margin: 0; background: #fcfcfa; color: #1b1d21; } svg { display: block; width: 100%; min-width: 900px; }
#tip { position: fixed; left: 0; top: 0; pointer-events: none; white-space: pre-line; visibility: hidden;
  background: #1b1d21; color: #fcfcfa; font: 12.5px/1.45 system-ui, sans-serif; padding: 7px 11px; border-radius: 6px; }
{{ style }}</style></head>
<body>{{ svg }}<div id="tip"></div><script>{{ script }}</script></body>
</html>
"""

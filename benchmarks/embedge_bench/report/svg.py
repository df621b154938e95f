"""Drawing: scales from values to pixels, and a plot that collects SVG elements.

Elements carry classes instead of colours; the page's style sheet colours them for light, dark and print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree

__all__ = ["Plot", "Point", "Scale", "linear", "log", "spread", "tail"]

Point = tuple[float, float]

_FOREIGN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # https://www.w3.org/TR/xml/#charsets


@dataclass(frozen=True, slots=True)
class Scale:
    """A mapping from [low, high] to pixels [start, end]; values outside are drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    bend: Callable[[float], float] = float

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high = self.bend(self.low), self.bend(self.high)
        share = (self.bend(min(self.high, max(self.low, value))) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def linear(values: Iterable[float], start: float, end: float, *, count: int = 5) -> Scale:
    """Return a scale from 0 to a round number over all values."""
    top = max(values, default=0.0) or 1.0
    raw = top / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    steps = math.ceil(top / step * 0.999)
    return Scale(0.0, steps * step, start, end, tuple(n * step for n in range(steps + 1)))


def log(values: Iterable[float], start: float, end: float, *, gap: float = 22.0) -> Scale:
    """Return a logarithmic scale between the round numbers around all positive values.

    Its ticks are about `gap` pixels apart.
    """
    found = [value for value in values if value > 0] or [1.0]
    for factors in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1, 3), (1,)):
        rounds = [factor * 10.0**exponent for exponent in range(-9, 10) for factor in factors]
        low = max(number for number in rounds if number <= min(found))
        high = min(number for number in rounds if number >= max(found) and number > low)
        ticks = tuple(number for number in rounds if low <= number <= high)
        if len(ticks) * gap <= abs(end - start):
            break
    return Scale(low, high, start, end, ticks, math.log10)


def tail(highest: float, start: float, end: float) -> Scale:
    """Return a scale of shares from 0 to `highest` < 1, with equal room for each further nine."""
    ticks = tuple(share for share in (0.5, 0.9, 0.99, 0.999, 0.9999) if share <= highest)
    return Scale(0.0, highest, start, end, ticks, lambda share: -math.log10(1.0 - share))


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the places moved apart to at least `gap`, in the same order, inside [low, high] if they fit."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + gap)
    limit = high
    for place in reversed(order):
        moved[place] = max(low, min(moved[place], limit))
        limit = moved[place] - gap
    return moved


class Plot:
    """One drawing of width x height. Data elements have the class `mark`."""

    def __init__(self, width: float, height: float, label: str) -> None:
        self.width, self.height = width, height
        self._root = ElementTree.Element(
            "svg", {"viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": label}
        )

    def add(self, tag: str, text: str = "", /, **attributes: object) -> None:
        """Add an element. Attribute names are as in SVG with `_` for `-`; `cls` is the class; None is left out."""
        names = {name: "class" if name == "cls" else name.rstrip("_").replace("_", "-") for name in attributes}
        found = {names[name]: f"{value}" for name, value in attributes.items() if value is not None}
        ElementTree.SubElement(self._root, tag, found).text = text or None

    def text(self, x: float, y: float, text: str, cls: str = "", anchor: str = "start") -> None:
        """Write text; `y` is its base line."""
        self.add("text", text, x=x, y=y, cls=cls or None, text_anchor=anchor)

    def line(self, points: Sequence[Point], cls: str) -> None:
        """Draw a line through points, in pixels."""
        self.add("polyline", points=" ".join(f"{x:g},{y:g}" for x, y in points), cls=f"line mark {cls}")

    def area(self, points: Sequence[Point], base: float, cls: str) -> None:
        """Fill between points and the horizontal at `base`."""
        closed = [(points[0][0], base), *points, (points[-1][0], base)]
        self.add("polygon", points=" ".join(f"{x:g},{y:g}" for x, y in closed), cls=f"area mark {cls}")

    def dot(self, x: float, y: float, cls: str, tip: str, r: float = 4) -> None:
        """Draw a point with a tooltip; its hover target is larger than the visible point."""
        self.add("circle", cx=x, cy=y, r=r, cls=f"dot mark {cls}")
        self.add("circle", cx=x, cy=y, r=max(9, r), cls="hit", data_tip=tip)

    def box(self, x: float, y: float, width: float, height: float, cls: str, tip: str, **more: str) -> None:
        """Draw a rectangle with a tooltip."""
        x, y, width, height = (round(side, 1) for side in (x, y, width, height))
        self.add("rect", "", x=x, y=y, width=width, height=height, cls=cls, data_tip=tip, **more)

    def axis_x(self, scale: Scale, y: float, top: float, form: Callable[[float], str], title: str) -> None:
        """Draw vertical grid lines from `top` to `y`, their values, and the axis's title."""
        for tick in scale.ticks:
            self.add("line", x1=scale(tick), x2=scale(tick), y1=top, y2=y, cls="grid")
            self.text(scale(tick), y + 18, form(tick), "tick", "middle")
        if title:
            self.text(scale.end, y + 38, title, "title", "end")

    def axis_y(self, scale: Scale, x: float, right: float, form: Callable[[float], str], title: str) -> None:
        """Draw horizontal grid lines from `x` to `right`, their values, and the axis's title above them."""
        for tick in scale.ticks:
            self.add("line", x1=x, x2=right, y1=scale(tick), y2=scale(tick), cls="grid")
            self.text(x - 8, scale(tick) + 4, form(tick), "tick", "end")
        self.text(x, scale.end - 14, title, "title")

    def markup(self) -> str:
        """Return the drawing; characters invalid in XML are replaced."""
        return _FOREIGN.sub("\N{REPLACEMENT CHARACTER}", ElementTree.tostring(self._root, encoding="unicode"))

    def document(self, style: str) -> str:
        """Return the drawing as a standalone file with its style sheet."""
        size = f'xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}"'
        head, _, rest = self.markup().removeprefix("<svg").partition(">")
        return f"<svg {size}{head}><style>{style}</style>{rest}\n"

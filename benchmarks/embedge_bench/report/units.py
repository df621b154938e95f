"""Readable numbers: three significant digits, a unit, and "n/a" if not available."""

from __future__ import annotations

import math
from collections.abc import Callable

from embedge_bench.results import Estimate

__all__ = [
    "MISSING",
    "cosine",
    "digits",
    "interval",
    "megabytes",
    "milliseconds",
    "percent",
    "short",
    "tick",
    "time",
    "time_tick",
]

MISSING = "n/a"


def cosine(value: float) -> str:
    """Return a cosine cut after six digits, never rounded up."""
    return f"{math.floor(1e6 * value + 1e-6) / 1e6:.6f}"


def digits(value: float | None) -> str:
    """Return `value` with three significant digits and thousands marked."""
    if value is None:
        return MISSING
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 else f"{value:.2g}"


def time(seconds: float | None) -> str:
    """Return seconds in a fitting unit."""
    if seconds is None:
        return MISSING
    factor, unit = _unit(seconds)
    return f"{digits(seconds / factor)} {unit}"


def milliseconds(seconds: float) -> str:
    """Return seconds in milliseconds, without the unit."""
    return digits(1e3 * seconds)


def tick(value: float) -> str:
    """Return a round number as it stands on an axis."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:g}"


def time_tick(seconds: float) -> str:
    """Return a round number of seconds as it stands on an axis."""
    factor, unit = _unit(seconds)
    return f"{tick(round(seconds / factor, 6))} {unit}"


def percent(share: float | None) -> str:
    """Return a share, 0 to 1, in percent."""
    return MISSING if share is None else f"{100 * share:.1f} %" if share < 0.9995 else "100 %"


def megabytes(count: float | None) -> str:
    """Return bytes in megabytes."""
    return MISSING if count is None else f"{count / 1e6:,.0f} MB"


def short(name: str, most: int) -> str:
    """Return a name with its middle left out where it has more than `most` characters; names differ at their ends."""
    return name if len(name) <= most else f"{name[: most // 3]}…{name[most // 3 + 1 - most :]}"


def interval(estimate: Estimate, form: Callable[[float], str]) -> str:
    """Return the interval of an estimate, or an empty string for a single round."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{form(estimate.low)} – {form(estimate.high)}"


def _unit(seconds: float) -> tuple[float, str]:
    scales = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
    return next(((factor, unit) for factor, unit in scales if abs(seconds) >= 0.9995 * factor), scales[-1])

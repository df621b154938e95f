"""Reading a trace in Chrome's format: the spans of each track, and how deep each lies within others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from embedge.errors import InvalidInput, NotFound

__all__ = ["Box", "Track", "busy", "read", "window"]


class _TraceEvent(msgspec.Struct):
    """The fields of an event; https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU."""

    ph: str
    name: str = ""
    ts: float = 0
    dur: float = 0
    pid: int | str = 0
    tid: int | str = 0
    args: dict[str, Any] = {}


class _TraceFile(msgspec.Struct):
    traceEvents: list[_TraceEvent]  # noqa: N815 - the format's own name


@dataclass(frozen=True, slots=True)
class Box:
    """One span, in seconds since the first of the trace. depth: how many others it lies within."""

    name: str
    start: float
    end: float
    depth: int
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Track:
    """The spans of one thread or stream, by start."""

    name: str
    boxes: list[Box]


def read(file: Path) -> list[Track]:
    """Return the non-empty tracks of a trace, in the trace's order.

    Raises:
        NotFound: The file is missing.
        InvalidInput: The file is not such a trace, or has no complete events.
    """
    try:
        events = msgspec.json.decode(file.read_bytes(), type=_TraceFile).traceEvents
    except FileNotFoundError as error:
        raise NotFound(f"{file}: no such file; 'embedge serve --trace' writes one") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: this is no trace in Chrome's JSON object format: {error}") from error
    spans = sorted((each for each in events if each.ph == "X"), key=lambda each: (each.ts, -each.dur))
    if not spans:
        raise InvalidInput(f"{file}: the trace has no spans; send some work while it is recorded")
    names = {(each.pid, each.tid): each.args for each in events if each.name == "thread_name"}
    places = {(each.pid, each.tid): each.args for each in events if each.name == "thread_sort_index"}
    found: dict[tuple[int | str, int | str], list[_TraceEvent]] = {}
    for each in spans:
        found.setdefault((each.pid, each.tid), []).append(each)
    order = sorted(found, key=lambda key: (_place(places.get(key, {})), str(key)))
    first = spans[0].ts
    if not math.isfinite(max(each.ts + each.dur for each in spans) - first):
        raise InvalidInput(f"{file}: the times of its spans are too far apart to be drawn")
    return [Track(str(names.get(key, {}).get("name", key[1])), _boxes(found[key], first)) for key in order]


def window(tracks: Sequence[Track], start: float, end: float) -> list[Track]:
    """Return the tracks between two times in seconds, with spans clipped to them."""
    cut = [
        Track(
            track.name,
            [
                Box(box.name, max(start, box.start), min(end, box.end), box.depth, box.facts)
                for box in track.boxes
                if box.start < end and (box.end > start or box.start >= start)
            ],
        )
        for track in tracks
    ]
    return [track for track in cut if track.boxes]


def busy(track: Track) -> float:
    """Return the busy seconds of a track."""
    return sum(box.end - box.start for box in track.boxes if not box.depth)


def _place(facts: dict[str, Any]) -> float:
    """Return the sort index of a track, ignoring other tools' types."""
    place = facts.get("sort_index")
    return place if isinstance(place, (int, float)) else 0


def _boxes(events: Sequence[_TraceEvent], first: float) -> list[Box]:
    boxes: list[Box] = []
    ends: list[float] = []
    for each in events:
        start, end = (each.ts - first) / 1e6, (each.ts + each.dur - first) / 1e6
        while ends and ends[-1] <= start + 1e-9:  # rounding: times are written in nanoseconds
            ends.pop()
        boxes.append(Box(each.name, start, end, len(ends), each.args))
        ends.append(end)
    return boxes

"""When the GPU did what: events between the parts of a batch, and their times on the host's clock, for a trace."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import NamedTuple

from embedge import trace
from embedge.cuda import Driver, Event, Stream

__all__ = ["Anchor", "Marks", "StreamClock"]

# CUDA gives times between events as 32-bit floats of milliseconds: within a minute they are good to some microseconds.
_EVERY_SECONDS = 60.0


class Anchor(NamedTuple):
    """An event that happened at a known time of `time.perf_counter`."""

    event: Event
    seconds: float

    def at(self, event: Event) -> float:
        """Return when an event happened that is done."""
        return self.seconds + event.seconds_since(self.event)


class StreamClock:
    """Puts a stream's events on the host's clock. Owned by the lane's thread; made once something is traced."""

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self._stream = stream
        # They take turns: a batch that began by one anchor may end after the next was set.
        self._events = [driver.event(timing=True), driver.event(timing=True)]
        self._anchor: Anchor | None = None

    def anchor(self) -> Anchor:
        """Return what to measure a new batch by. Once a minute that waits for all that is on the stream."""
        if self._anchor is None or time.perf_counter() - self._anchor.seconds > _EVERY_SECONDS:
            self._events.reverse()
            self._events[0].record(self._stream)
            self._events[0].wait()
            self._anchor = Anchor(self._events[0], time.perf_counter())
        return self._anchor

    def close(self) -> None:
        """Free the events."""
        for event in self._events:
            event.close()


class Marks:
    """The parts of one batch. The lane's thread makes and closes them; the one that waits for the result tells them."""

    def __init__(self, driver: Driver, stream: Stream, anchor: Anchor, *, track: str, graph: str) -> None:
        """`track`, `graph`: where the spans go, and what they say beside their times."""
        self._driver = driver
        self._stream = stream
        self._anchor = anchor
        self._track = track
        self._graph = graph
        self._events: list[tuple[str, Event]] = []
        self.end("")

    def end(self, part: str) -> None:
        """Say that what was enqueued since the last mark is this part of the batch."""
        event = self._driver.event(timing=True)
        self._events.append((part, event))
        event.record(self._stream)

    def tell(self) -> None:
        """Trace the parts, once the last of them is done."""
        times = [(part, self._anchor.at(event)) for part, event in self._events]
        for (_, start), (part, end) in pairwise(times):
            trace.span(self._track, part, start, end, graph=self._graph)

    def close(self) -> None:
        """Free the events."""
        for _, event in self._events:
            event.close()

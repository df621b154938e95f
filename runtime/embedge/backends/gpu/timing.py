"""When the GPU ran each part of a batch: CUDA events between the parts, put on the host's clock for a trace."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import NamedTuple

from embedge import trace
from embedge.cuda import Driver, Event, Stream

__all__ = ["Anchor", "BatchTimeline", "StreamClock"]

# CUDA measures between events in 32-bit floats of milliseconds: within a minute they are good to some microseconds.
_ANCHOR_SECONDS = 60.0


class Anchor(NamedTuple):
    """An event at a known time.

    Attributes:
        event: A completed event with timing.
        seconds: When it happened, as `time.perf_counter` has it.
    """

    event: Event
    seconds: float

    def at(self, event: Event) -> float:
        """Return when a completed event happened, in seconds of `time.perf_counter`."""
        return self.seconds + event.seconds_since(self.event)


class StreamClock:
    """Puts a stream's events on the host's clock. Owned by the lane's thread; created once tracing is on."""

    def __init__(self, driver: Driver, stream: Stream) -> None:
        self._stream = stream
        # They alternate: a batch that began by one anchor may end after the next was set.
        self._events = [driver.event(timing=True), driver.event(timing=True)]
        self._anchor: Anchor | None = None

    def anchor(self) -> Anchor:
        """Return the anchor for a new batch. Once a minute this waits until the stream is idle."""
        if self._anchor is None or time.perf_counter() - self._anchor.seconds > _ANCHOR_SECONDS:
            self._events.reverse()
            self._events[0].record(self._stream)
            self._events[0].wait()
            self._anchor = Anchor(self._events[0], time.perf_counter())
        return self._anchor

    def close(self) -> None:
        """Free the events."""
        for event in self._events:
            event.close()


class BatchTimeline:
    """The parts of one batch. The lane's thread creates and closes it; the thread that awaits the result writes it."""

    def __init__(self, driver: Driver, stream: Stream, anchor: Anchor, *, track: str, graph: str) -> None:
        """Begin the first part.

        Args:
            driver: Creates the events.
            stream: Runs the batch.
            anchor: From `StreamClock.anchor`.
            track: The trace's track for the spans.
            graph: The graph's name, an argument of each span.
        """
        self._driver = driver
        self._stream = stream
        self._anchor = anchor
        self._track = track
        self._graph = graph
        self._events: list[tuple[str, Event]] = []
        self.mark("")

    def mark(self, part: str) -> None:
        """End a part of the batch: everything enqueued since the mark before belongs to it."""
        event = self._driver.event(timing=True)
        self._events.append((part, event))
        event.record(self._stream)

    def write(self) -> None:
        """Add the parts to the trace, once the last of them is done."""
        times = [(part, self._anchor.at(event)) for part, event in self._events]
        for (_, start), (part, end) in pairwise(times):
            trace.span(self._track, part, start, end, graph=self._graph)

    def close(self) -> None:
        """Free the events."""
        for _, event in self._events:
            event.close()

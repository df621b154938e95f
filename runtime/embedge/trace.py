"""Traces of threads and streams: spans kept in memory and written as a Chrome trace.

Call `span` with a track and times of `time.perf_counter`. Without a recording that costs one comparison. The newest
spans are kept, up to a limit. The file is rewritten as a whole now and then and at the end, so a killed process leaves
a readable file.

The format is the JSON object form of the Trace Event Format, with complete events ("X"), times in microseconds:
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Perfetto and chrome://tracing read it.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from embedge import atomic
from embedge.errors import InvalidInput

__all__ = ["Recorder", "Span", "during", "record", "recording", "span", "thread"]

log = logging.getLogger("embedge.trace")

_MOST = 100_000  # spans: about 30 MB of memory, and 15 MB on disk
_EVERY = 10.0  # seconds between two writes
_CHUNK = 500  # events encoded at once: other threads run between two chunks


@dataclass(frozen=True, slots=True)
class Span:
    """One activity of a track, in nanoseconds since the recording began."""

    track: str
    name: str
    start: int
    end: int
    facts: dict[str, Any]


def span(track: str, name: str, start: float, end: float, **facts: Any) -> None:
    """Record an activity of a track, in seconds of `time.perf_counter`, with facts beside it."""
    recorder = _recorder
    if recorder is not None:
        recorder.add(track, name, start, end, facts)


@contextmanager
def during(name: str, **facts: Any) -> Iterator[None]:
    """Record the block as a span of this thread's track, even if it fails."""
    start = time.perf_counter()
    try:
        yield
    finally:
        if _recorder is not None:
            span(thread(), name, start, time.perf_counter(), **facts)


def recording() -> bool:
    """Return whether spans are kept, where it costs something to make one."""
    return _recorder is not None


def thread() -> str:
    """Return the calling thread's track."""
    return threading.current_thread().name.removeprefix("embedge-")


@contextmanager
def record(file: Path | None) -> Iterator[None]:
    """Keep spans meanwhile and write them to the file; None: keep none. Raises InvalidInput where it cannot be."""
    global _recorder
    if file is None:
        yield
        return
    if _recorder is not None:
        raise InvalidInput(f"--trace {file}: this process writes a trace already; one at a time")
    recorder = Recorder(file)
    _recorder = recorder
    try:
        yield
    finally:
        _recorder = None
        recorder.close()


class Recorder:
    """Owns the spans, the file, and the thread writing it every few seconds."""

    def __init__(self, file: Path, *, most: int = _MOST, every: float = _EVERY) -> None:
        self.dropped = 0
        if file.exists() and not file.is_file():  # it would be replaced: as root, /dev/null, too
            raise InvalidInput(f"the trace cannot be written: {file}: this is no regular file")
        self._file = Path(os.path.realpath(file))  # a link stays one
        self._every = every
        self._origin = time.perf_counter()
        self._began = datetime.now(timezone.utc)
        self._spans: deque[Span] = deque(maxlen=most)
        self._lock = threading.Lock()  # guards the spans and their count; held for an append or a copy
        try:
            self.write()
        except OSError as error:
            raise InvalidInput(f"the trace cannot be written: {file}: {error.strerror}") from error
        self._closed = threading.Event()  # set by `close`, before it joins the thread
        self._thread = threading.Thread(target=self._main, name="embedge-trace", daemon=True)
        self._thread.start()

    def add(self, track: str, name: str, start: float, end: float, facts: dict[str, Any]) -> None:
        """Keep a span and drop the oldest. Clip starts before the recording and ends before the start.

        GPU times come from another clock and may be off by a little.
        """
        began = max(0, round((start - self._origin) * 1e9))
        new = Span(track, name, began, max(began, round((end - self._origin) * 1e9)), facts)
        with self._lock:
            self.dropped += len(self._spans) == self._spans.maxlen
            self._spans.append(new)

    def close(self) -> None:
        """End the thread and write the remaining spans."""
        self._closed.set()
        self._thread.join()
        self._write_or_tell()

    def write(self) -> None:
        """Write all spans, in one step."""
        with self._lock:
            spans, dropped = list(self._spans), self.dropped
        with atomic.replacing(self._file, durable=False) as out:  # written anew every few seconds
            out.writelines(_chunks(spans, self._about(dropped)))

    def _about(self, dropped: int) -> dict[str, Any]:
        return {"process": os.getpid(), "began": self._began.isoformat(), "dropped": dropped}

    def _main(self) -> None:
        while not self._closed.wait(self._every):
            self._write_or_tell()

    def _write_or_tell(self) -> None:
        try:
            self.write()
        except OSError as error:  # serving goes on without its trace
            log.warning("%s: the trace was not written: %s", self._file, error.strerror)


_recorder: Recorder | None = None  # set and reset by `record`, read by every thread


def _chunks(spans: Sequence[Span], about: dict[str, Any]) -> Iterator[bytes]:
    """Yield the file, piece by piece."""
    pid, encode = about["process"], msgspec.json.Encoder(enc_hook=str).encode
    events = [
        {"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": "embedge"}},
        *(event for number, row in enumerate(_rows(spans), start=1) for event in _events(row, pid, number)),
    ]
    yield b'{"displayTimeUnit":"ms","otherData":' + encode(about) + b',"traceEvents":[\n'
    for first in range(0, len(events), _CHUNK):
        yield b",\n" * (first > 0) + b",\n".join(map(encode, events[first : first + _CHUNK]))
    yield b"\n]}\n"


def _events(row: tuple[str, list[Span]], pid: int, tid: int) -> Iterator[dict[str, Any]]:
    """Yield a row's name, its place among the others, and its spans."""
    for name, value in (("thread_name", {"name": row[0]}), ("thread_sort_index", {"sort_index": tid})):
        yield {"ph": "M", "name": name, "pid": pid, "tid": tid, "args": value}
    for each in row[1]:
        times = {"ts": each.start / 1000, "dur": (each.end - each.start) / 1000}
        yield {"ph": "X", "name": each.name, **times, "pid": pid, "tid": tid, "args": each.facts}


def _rows(spans: Sequence[Span]) -> Iterator[tuple[str, list[Span]]]:
    """Yield rows of consecutive or nested spans, the only ones viewers can show.

    A track with overlapping spans, such as two models' lanes of one name, becomes several rows.
    """
    ordered = sorted(spans, key=lambda each: (_rank(each.track), each.start, -each.end))
    for track, group in groupby(ordered, key=lambda each: each.track):
        rows: list[tuple[list[Span], list[int]]] = []  # each with the ends of its open spans
        for each in group:
            for _, ends in rows:
                while ends and ends[-1] <= each.start:
                    ends.pop()
            fits = (row for row in rows if not row[1] or each.end <= row[1][-1])
            row = next(fits, None)
            if row is None:
                rows.append(row := ([], []))
            row[0].append(each)
            row[1].append(each.end)
        for number, (found, _) in enumerate(rows, start=1):
            yield (track if number == 1 else f"{track} ({number})"), found


def _rank(track: str) -> tuple[int, list[tuple[int, str]], str]:
    """Return a sort key for natural order: the tenth after the ninth."""
    place = 0 if track.startswith("prepare") else 2 if track == "completer" else 1
    return place, [(int(word or -1), rest) for word, rest in re.findall(r"(\d*)(\D*)", track)], track

"""Virtual time: what each thread of the host and each engine of the device was doing when. Nothing waits for it."""

from __future__ import annotations

import bisect
import threading
from dataclasses import dataclass, field

__all__ = ["Clock", "Cost", "Slice"]


@dataclass
class Cost:
    """How long copies take. Bandwidths in bytes a second, latency in seconds: roughly PCIe 3.0 with 16 lanes."""

    copy_in_bandwidth: float = 12e9
    copy_out_bandwidth: float = 12e9
    latency: float = 5e-6

    def copy_in(self, nbytes: int) -> float:
        return self.latency + nbytes / self.copy_in_bandwidth

    def copy_out(self, nbytes: int) -> float:
        return self.latency + nbytes / self.copy_out_bandwidth


@dataclass(frozen=True, order=True)
class Slice:
    """One operation on the timeline, in virtual seconds."""

    start: float
    end: float
    engine: str = field(compare=False)
    stream: int = field(compare=False)
    name: str = field(compare=False)


class Clock:
    """The engines' busy times, and a clock for each thread. Guarded by the machine's lock."""

    def __init__(self) -> None:
        self.timeline: list[Slice] = []
        self._busy: dict[str, list[tuple[float, float]]] = {}  # by engine, ascending, never overlapping
        self._threads = threading.local()

    def now(self) -> float:
        """Return the calling thread's virtual time."""
        return float(getattr(self._threads, "now", 0.0))

    def reach(self, seconds: float) -> None:
        """Move the calling thread on to this time, if it is not there yet."""
        self._threads.now = max(self.now(), seconds)

    def be(self, seconds: float) -> None:
        """Let it be this late for the calling thread, which plays several of them in turn."""
        self._threads.now = seconds

    def use(self, engine: str, stream: int, name: str, earliest: float, seconds: float) -> tuple[float, float]:
        """Give an engine work at the first time from `earliest` on at which it is free for that long."""
        busy = self._busy.setdefault(engine, [])
        start = earliest
        for begin, end in busy:
            if start + seconds <= begin:
                break
            start = max(start, end)
        bisect.insort(busy, (start, start + seconds))
        bisect.insort(self.timeline, Slice(start, start + seconds, engine, stream, name))
        return start, start + seconds

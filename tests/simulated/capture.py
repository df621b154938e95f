"""Graph capture: work that is written down instead of run, and launched later with the addresses of that time."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from tests.simulated.contexts import Context
from tests.simulated.errors import Failure
from tests.simulated.streams import Op

__all__ = ["Capture", "Exec", "Graph"]


@dataclass(eq=False)
class Capture:
    """A capture under way. broken: a call made it invalid; it can only be ended, and nothing comes of it."""

    mode: str  # "global", "thread_local" or "relaxed"
    thread: threading.Thread = field(default_factory=threading.current_thread)
    ops: list[Op] = field(default_factory=list)
    broken: bool = False

    def forbids(self, thread: threading.Thread) -> bool:
        """Whether this thread may not allocate, free, wait or ask now."""
        return self.mode == "global" or (self.mode == "thread_local" and self.thread is thread)

    def add(self, op: Op) -> None:
        if self.broken:
            raise Failure("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        self.ops.append(op)


@dataclass(eq=False)
class Graph:
    """What a capture wrote down."""

    handle: int
    context: Context
    ops: list[Op]


@dataclass(eq=False)
class Exec:
    """A graph made ready to be launched. last: the end of its latest launch."""

    handle: int
    context: Context
    ops: list[Op]
    last: Op | None = None

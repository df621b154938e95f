"""A lane's stream, and what all sessions of the lane share with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from embedge import trace
from embedge.backends.gpu.timing import Marks, StreamClock
from embedge.cuda import CudaError, Driver, SharedContext

__all__ = ["LaneStream"]

log = logging.getLogger("embedge.backends")

# What a hung GPU may still use. Owned by nobody and kept until the process ends: freeing it would wait for the GPU.
_left_behind: list[object] = []


class LaneStream:
    """One stream of one lane. Made and closed in the lane's thread."""

    def __init__(self, driver: Driver, context: SharedContext) -> None:
        """Raises CudaError."""
        self.driver = driver
        self.stream = driver.stream()
        self._context = context
        self._track = f"{trace.thread()} stream"
        self._clock: StreamClock | None = None
        self._hung = False

    @contextmanager
    def told(self) -> Iterator[None]:
        """Let all lanes know of an error that breaks the context under them."""
        try:
            yield
        except CudaError as error:
            self._context.fail(error)
            raise

    def marks(self, graph: str) -> Marks | None:
        """Return marks for a batch that begins; None while nothing is traced."""
        if not trace.recording():
            return None
        if self._clock is None:
            self._clock = StreamClock(self.driver, self.stream)
        return Marks(self.driver, self.stream, self._clock.anchor(), track=self._track, graph=graph)

    def leave_behind(self, what: object, name: str) -> None:
        """Keep for good what the stream, which hangs, may still use."""
        log.error("%s hangs; what it has of graph %s stays in memory until the process ends", self._track, name)
        _left_behind.append(what)
        self._hung = True

    def close(self) -> None:
        """Give the stream back, once its sessions are closed; one that hangs is left behind, too."""
        if self._hung:
            _left_behind.append(self)
            return
        if self._clock is not None:
            self._clock.close()
        self.stream.close()

"""A lane's stream, and what all sessions of the lane share with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from embedge import trace
from embedge.backends.gpu.timing import BatchTimeline, StreamClock
from embedge.cuda import CudaError, Driver, SharedContext

__all__ = ["LaneStream"]

log = logging.getLogger("embedge.backends")

# What a hung GPU may still use. Nobody owns it, and it stays until the process ends: freeing it would wait for the GPU.
_abandoned: list[object] = []


class LaneStream:
    """One stream of one lane. Created and closed in the lane's thread.

    Attributes:
        driver: The GPU.
        stream: The CUDA stream.
    """

    def __init__(self, driver: Driver, context: SharedContext) -> None:
        """Create the stream.

        Raises:
            CudaError: CUDA refused.
        """
        self.driver = driver
        self.stream = driver.stream()
        self._context = context
        self._track = f"{trace.thread()} stream"
        self._clock: StreamClock | None = None
        self._hung = False

    @contextmanager
    def report_failures(self) -> Iterator[None]:
        """Report an error that breaks the context to all lanes that share it, and raise it again."""
        try:
            yield
        except CudaError as error:
            self._context.fail(error)
            raise

    def timeline(self, graph: str) -> BatchTimeline | None:
        """Return the timeline of a batch that begins now; None while nothing is traced."""
        if not trace.recording():
            return None
        if self._clock is None:
            self._clock = StreamClock(self.driver, self.stream)
        return BatchTimeline(self.driver, self.stream, self._clock.anchor(), track=self._track, graph=graph)

    def abandon(self, owner: object, graph: str) -> None:
        """Keep what the hung stream may still use until the process ends."""
        log.error("%s hangs; the memory of its graph %s stays allocated until the process ends", self._track, graph)
        _abandoned.append(owner)
        self._hung = True

    def close(self) -> None:
        """Destroy the stream, once its sessions are closed; a hung one is abandoned, too."""
        if self._hung:
            _abandoned.append(self)
            return
        if self._clock is not None:
            self._clock.close()
        self.stream.close()

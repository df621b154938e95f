"""Lanes on a GPU: a lane owns a stream, and everything that it does there is in that stream's order.

A batch: wait until the GPU has read the inputs that were in the staging set before; pack the new ones; wait until the
outputs that were in it are in arrays of their own; enqueue the copy in, the computation and the copy out, and an event
behind them. Whoever wants the result sleeps until that event. So the next batch is packed and enqueued while one
computes, and no wait is for the device as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedge.backends.base import Session
from embedge.backends.gpu.executable import Executable
from embedge.backends.gpu.session import StreamSession
from embedge.backends.gpu.stream import LaneStream
from embedge.batches.shapes import Shape
from embedge.cuda import Driver, SharedContext, Stream

__all__ = ["OpenKernel", "StreamSession", "StreamSlot"]

OpenKernel = Callable[[str, Path, Stream], Executable]
"""Opens a graph by its name and ONNX file, to run on a stream. Called in the lane's thread."""

_SETTLE_SECONDS = 5.0  # seconds; far longer than any batch


class StreamSlot:
    """What a lane owns on a GPU: its stream, and its place among those who use the context. Made in its thread."""

    def __init__(
        self,
        driver: Driver,
        context: SharedContext,
        wake: Callable[[], None],
        open_kernel: OpenKernel,
        *,
        sets: int = 2,
        cuda_graphs: int = 32,
        largest: Mapping[str, Sequence[Mapping[str, Shape]]] | None = None,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        """`sets`: batches that a session has memory for at a time. `cuda_graphs`: most shapes that are kept recorded.

        largest: by graph, the inputs' shapes of its largest batches: there is memory for them at once, for larger ones
        when they come. settle_seconds: seconds that closing waits for a GPU that hangs. Raises CudaError.
        """
        self._driver = driver
        self._context = context
        self._wake = wake
        self._open_kernel = open_kernel
        self._sets = sets
        self._cuda_graphs = cuda_graphs
        self._largest = largest or {}
        self._settle_seconds = settle_seconds
        driver.enter()
        try:
            context.join(wake)
            self.lane = LaneStream(driver, context)
        except BaseException:
            context.leave(wake)
            driver.leave()
            raise

    def open(self, name: str, path: Path) -> Session:
        """Open a graph of the manifest. Raises BundleError, BackendError, CudaError."""
        with self.lane.told():
            kernel = self._open_kernel(name, path, self.lane.stream)
            session = StreamSession(
                self.lane,
                kernel,
                name=name,
                sets=self._sets,
                cuda_graphs=self._cuda_graphs,
                settle_seconds=self._settle_seconds,
            )
            try:
                session.reserve(self._largest.get(name, ()))
            except BaseException:
                session.close()
                raise
        return session

    def check(self) -> None:
        """Raise CudaError if the context is broken, whoever broke it."""
        self._context.check()

    def attach(self) -> None:
        """Let the calling thread wait for results."""
        self._driver.enter()

    def detach(self) -> None:
        """End what `attach` began."""
        self._driver.leave()

    def close(self) -> None:
        """Give the stream back, and let go of the context."""
        try:
            self.lane.close()
        finally:
            self._context.leave(self._wake)
            self._driver.leave()

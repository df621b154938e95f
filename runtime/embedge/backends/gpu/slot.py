"""Lanes on a GPU: each owns a stream, and everything that it does there runs in that stream's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedge.backends.base import Session
from embedge.backends.gpu.executable import Executable
from embedge.backends.gpu.session import StreamSession
from embedge.backends.gpu.stream import LaneStream
from embedge.batches.shapes import Shape
from embedge.cuda import Driver, SharedContext, Stream

__all__ = ["OpenExecutable", "StreamSession", "StreamSlot"]

OpenExecutable = Callable[[str, Path, Stream], Executable]
"""Opens a graph by its name and ONNX file, to run on a stream. Called in the lane's thread."""

_SETTLE_SECONDS = 5.0  # far longer than any batch


class StreamSlot:
    """What a lane owns on a GPU: its stream, and its membership in the shared context. Created in the lane's thread.

    Attributes:
        lane: The lane's stream.
    """

    def __init__(
        self,
        driver: Driver,
        context: SharedContext,
        wake: Callable[[], None],
        open_executable: OpenExecutable,
        *,
        buffers: int = 2,
        cuda_graphs: int = 32,
        largest: Mapping[str, Sequence[Mapping[str, Shape]]] | None = None,
        settle_seconds: float = _SETTLE_SECONDS,
    ) -> None:
        """Join the context and create the stream.

        Args:
            driver: The GPU.
            context: The context to join.
            wake: Called once, from another thread, if the context breaks.
            open_executable: Opens a graph for this lane.
            buffers: Staging buffers of each session: batches in flight at a time.
            cuda_graphs: Most shapes that a session keeps captured.
            largest: Input shapes of the largest batches, by graph. Sessions allocate for them at once, and for larger
                ones when they come.
            settle_seconds: How long closing waits for a GPU that hangs.

        Raises:
            CudaError: The GPU can't be used.
        """
        self._driver = driver
        self._context = context
        self._wake = wake
        self._open_executable = open_executable
        self._buffers = buffers
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
        """Open a graph of the manifest.

        Args:
            name: The graph's name.
            path: Its ONNX file.

        Raises:
            BundleError: The file can't be read.
            BackendError: The backend doesn't take the graph, or memory is too small.
            CudaError: A call to CUDA failed.
        """
        with self.lane.report_failures():
            executable = self._open_executable(name, path, self.lane.stream)
            session = StreamSession(
                self.lane,
                executable,
                name=name,
                buffers=self._buffers,
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
        """Undo `attach`."""
        self._driver.leave()

    def close(self) -> None:
        """Destroy the stream and leave the context."""
        try:
            self.lane.close()
        finally:
            self._context.leave(self._wake)
            self._driver.leave()

"""One graph in one lane on a GPU: batches go through staging sets in turn, and all that they need is on one stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from embedge.backends.base import Arrays, PendingArrays
from embedge.backends.gpu.cuda_graphs import CapturedGraphs
from embedge.backends.gpu.executable import Executable
from embedge.backends.gpu.staging import BufferLayout, Staging, StagingBuffer
from embedge.backends.gpu.stream import LaneStream
from embedge.batches.shapes import Shape
from embedge.cuda import CudaError
from embedge.errors import BackendError

__all__ = ["StreamSession"]

_LAYOUTS = 256  # batch shapes whose layouts are remembered


class StreamSession:
    """Opened, started and closed in the lane's thread; only results are called in another one, too."""

    def __init__(
        self,
        lane: LaneStream,
        kernel: Executable,
        *,
        name: str,
        sets: int = 2,
        cuda_graphs: int = 32,
        settle_seconds: float = 5.0,
    ) -> None:
        """`name`: of the graph. The kernel is this session's and is closed with it. The rest: see `StreamSlot`."""
        self._lane = lane
        self._kernel = kernel
        self._name = name
        self._settle_seconds = settle_seconds
        self._staging = Staging(lane.driver, sets, mapped=lane.driver.gpu().integrated)
        self._graphs = CapturedGraphs(lane.driver, lane.stream, kernel, cuda_graphs, name=name)
        self._layouts = lru_cache(_LAYOUTS)(self._lay_out)

    @property
    def captured(self) -> int:
        """How many shapes are replayed from captured graphs now."""
        return len(self._graphs)

    def reserve(self, batches: Iterable[Mapping[str, Shape]]) -> None:
        """Make room for batches with inputs of these shapes. Raises BackendError where the GPU has none."""
        layouts = [self._layouts(tuple(shapes[name] for name in self._kernel.inputs)) for shapes in batches]
        if layouts:
            self._make_room(*(max(layout.nbytes for layout in side) for side in zip(*layouts, strict=True)))

    def start(self, feeds: Arrays) -> PendingArrays:
        """Begin a run. Waits while the batches before it have all memory. Raises BackendError, CudaError."""
        with self._lane.told():
            missing = self._kernel.inputs.keys() - feeds.keys()
            if missing:
                raise BackendError(f"graph {self._name!r} takes an input {min(missing)!r}, which it was not given")
            shapes = tuple(feeds[name].shape for name in self._kernel.inputs)
            inputs, outputs = self._layouts(shapes)
            self._make_room(inputs.nbytes, outputs.nbytes)
            number, place = self._staging.next()
            if place.marked:
                place.consumed.wait()  # or the batch that was in the set would compute with these inputs
            inputs.pack(feeds, place.inputs.array)
            place.read.wait()  # or these outputs would get into its result
            place.read.clear()
            try:
                self._enqueue((shapes, number), place, inputs, outputs)
            except BaseException:
                place.read.set()
                place.mark(self._lane.stream)  # some of it may be on the stream
                raise
            return _Pending(self._lane, place, outputs)

    def close(self) -> None:
        """Free everything, once the GPU is through with it; what a GPU that hangs may still use is left behind.

        Results that were not called by then cannot be any more.
        """
        with self._lane.told():
            if not self._staging.settled(self._settle_seconds):
                self._lane.leave_behind(self, self._name)
                return
            self._graphs.clear()
            self._staging.close()
            self._kernel.close()

    def _lay_out(self, shapes: tuple[Shape, ...]) -> tuple[BufferLayout, BufferLayout]:
        """Return where inputs of these shapes and what comes of them have their places."""
        inputs = dict(zip(self._kernel.inputs, shapes, strict=True))
        return BufferLayout(self._kernel.inputs, inputs), BufferLayout(
            self._kernel.outputs, self._kernel.shapes(inputs)
        )

    def _make_room(self, inputs: int, outputs: int) -> None:
        """Have memory for a batch of so many bytes."""
        if self._staging.fits(inputs, outputs):
            return
        self._staging.drain()
        self._graphs.clear()
        try:
            self._staging.grow(inputs, outputs)
        except CudaError as error:
            if error.fatal:
                raise
            free, total = self._lane.driver.free_memory()
            raise BackendError(
                f"graph {self._name!r}: no room for a batch of {inputs:,} bytes in and {outputs:,} bytes out: "
                f"{free:,} of the GPU's {total:,} bytes are free ({error}); "
                "set fewer lanes, a smaller max_batch_tokens or max_batch_size, or end what else uses the GPU"
            ) from error

    def _enqueue(
        self, key: tuple[object, int], place: StagingBuffer, inputs: BufferLayout, outputs: BufferLayout
    ) -> None:
        """Put a batch that is packed on the stream."""
        driver, stream = self._lane.driver, self._lane.stream
        place.keep(self._lane.marks(self._name))
        source, target = self._staging.addresses(place)
        bound = inputs.bound(source), outputs.bound(target)
        if self._staging.mapped:
            # A library whose events have no handle cannot have them recorded by the graph itself.
            self._graphs.enqueue(key, *bound, place.consumed if place.consumed.handle else None)
            if not place.consumed.handle:
                place.consumed.record(stream)
            place.ended("compute")
        else:
            if inputs.nbytes:
                driver.copy_in(source, place.inputs, inputs.nbytes, stream)
            place.consumed.record(stream)
            place.ended("copy in")
            self._graphs.enqueue(key[0], *bound, None)
            place.ended("compute")
            driver.copy_out(place.outputs, target, outputs.nbytes, stream)
            place.ended("copy out")
        place.done.record(stream)
        place.marked = True


class _Pending:
    """The result of a batch that is on the stream. Its set is free again once it was called, or nobody has it."""

    def __init__(self, lane: LaneStream, place: StagingBuffer, outputs: BufferLayout) -> None:
        self._lane = lane
        self._place: StagingBuffer | None = place
        self._outputs = outputs

    def __call__(self) -> Arrays:
        place = self._place
        if place is None:
            raise BackendError("a result is there once, and was called before")
        try:
            with self._lane.told():
                place.done.wait()
                place.tell()
            return self._outputs.unpack(place.outputs.array)
        finally:
            self._release()

    def __del__(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._place is not None:
            self._place.read.set()
            self._place = None

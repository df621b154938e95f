"""A session: one graph in one lane on a GPU.

Batches go through staging buffers in turn, and everything for them is on the lane's one stream. The order of events:

1. The lane waits for `consumed` of the buffer's last batch: the GPU has read those inputs. It packs the new ones.
2. It waits for `outputs_free`: the outputs of that batch are in their own arrays, or nobody wants them.
3. It enqueues the copy in, the computation and the copy out, and records `consumed` and `done` between and behind them.
4. Whoever awaits the result sleeps until `done`, copies the outputs, and sets `outputs_free`.

So the next batch is packed and enqueued while one computes, and nothing waits for the device as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

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


class _BatchLayout(NamedTuple):
    shapes: tuple[Shape, ...]  # of the inputs
    inputs: BufferLayout
    outputs: BufferLayout


class StreamSession:
    """Opened, started and closed in the lane's thread. Another thread may call the results."""

    def __init__(
        self,
        lane: LaneStream,
        executable: Executable,
        *,
        name: str,
        buffers: int = 2,
        cuda_graphs: int = 32,
        settle_seconds: float = 5.0,
    ) -> None:
        """Take over the executable, which `close` closes.

        Args:
            lane: The lane's stream.
            executable: The graph, ready to run.
            name: The graph's name, for messages.
            buffers: Staging buffers: batches in flight at a time.
            cuda_graphs: Most shapes to keep captured.
            settle_seconds: How long `close` waits for a GPU that hangs.
        """
        self._lane = lane
        self._executable = executable
        self._name = name
        self._settle_seconds = settle_seconds
        self._staging = Staging(lane.driver, buffers, mapped=lane.driver.gpu().integrated)
        self._graphs = CapturedGraphs(lane.driver, lane.stream, executable, cuda_graphs, name=name)
        self._layouts = lru_cache(_LAYOUTS)(self._lay_out)

    @property
    def captured(self) -> int:
        """Number of shapes that are replayed from CUDA graphs now."""
        return len(self._graphs)

    def reserve(self, batches: Iterable[Mapping[str, Shape]]) -> None:
        """Allocate memory for the largest of these batches, given as shapes by input.

        Raises:
            BackendError: The GPU has too little memory.
        """
        layouts = [self._layouts(tuple(shapes[name] for name in self._executable.inputs)) for shapes in batches]
        if layouts:
            self._make_room(max(each.inputs.nbytes for each in layouts), max(each.outputs.nbytes for each in layouts))

    def start(self, feeds: Arrays) -> PendingArrays:
        """Begin a run. Waits while earlier batches hold all staging buffers.

        Args:
            feeds: Arrays by input, of the graph's dtypes. They are the caller's again on return.

        Returns:
            A function that waits for the outputs and returns them by name. Call it once, in any thread.

        Raises:
            BackendError: An input is missing or has another dtype, or the batch doesn't fit into memory.
            CudaError: A call to CUDA failed.
        """
        with self._lane.report_failures():
            batch = self._layouts(self._shapes(feeds))
            self._make_room(batch.inputs.nbytes, batch.outputs.nbytes)
            buffer = self._staging.next()
            if buffer.recorded:
                buffer.consumed.wait()  # or the batch before would compute with these inputs
            batch.inputs.pack(feeds, buffer.inputs.array)
            self._submit(batch, buffer)
            return _Pending(self._lane, buffer, batch.outputs)

    def close(self) -> None:
        """Free everything, once the GPU is through with it; what a hung GPU may still use is abandoned.

        Results that were not called before cannot be called any more.
        """
        with self._lane.report_failures():
            if not self._staging.wait_idle(self._settle_seconds):
                self._lane.abandon(self, self._name)
                return
            self._graphs.clear()
            self._staging.close()
            self._executable.close()

    def _shapes(self, feeds: Arrays) -> tuple[Shape, ...]:
        missing = self._executable.inputs.keys() - feeds.keys()
        if missing:
            raise BackendError(f"graph {self._name!r} takes an input {min(missing)!r}, but the batch lacks it")
        return tuple(feeds[name].shape for name in self._executable.inputs)

    def _lay_out(self, shapes: tuple[Shape, ...]) -> _BatchLayout:
        inputs = dict(zip(self._executable.inputs, shapes, strict=True))
        outputs = self._executable.shapes(inputs)
        return _BatchLayout(
            shapes, BufferLayout(self._executable.inputs, inputs), BufferLayout(self._executable.outputs, outputs)
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

    def _submit(self, batch: _BatchLayout, buffer: StagingBuffer) -> None:
        """Put a packed batch on the stream, or leave the buffer free."""
        buffer.outputs_free.wait()  # or these outputs would overwrite a result that is still to be copied
        buffer.outputs_free.clear()
        try:
            self._enqueue(batch, buffer)
        except BaseException:
            buffer.outputs_free.set()
            buffer.record(self._lane.stream)  # some of it may be on the stream
            raise

    def _enqueue(self, batch: _BatchLayout, buffer: StagingBuffer) -> None:
        buffer.begin_timeline(self._lane.timeline(self._name))
        if self._staging.mapped:
            self._enqueue_in_place(batch, buffer)
        else:
            self._enqueue_with_copies(batch, buffer)
        buffer.done.record(self._lane.stream)
        buffer.recorded = True

    def _enqueue_in_place(self, batch: _BatchLayout, buffer: StagingBuffer) -> None:
        """Compute on the staging buffer itself. Each buffer has other addresses, so other CUDA graphs."""
        source, target = self._staging.addresses(buffer)
        # pycuda's events have no handle: the executable cannot record them, so `consumed` goes behind all of it.
        consumed = buffer.consumed if buffer.consumed.handle else None
        key = (batch.shapes, buffer.number)
        self._graphs.enqueue(key, batch.inputs.bind(source), batch.outputs.bind(target), consumed)
        if consumed is None:
            buffer.consumed.record(self._lane.stream)
        buffer.mark("compute")

    def _enqueue_with_copies(self, batch: _BatchLayout, buffer: StagingBuffer) -> None:
        """Copy in, compute on the device's memory, copy out."""
        driver, stream = self._lane.driver, self._lane.stream
        source, target = self._staging.addresses(buffer)
        if batch.inputs.nbytes:
            driver.copy_in(source, buffer.inputs, batch.inputs.nbytes, stream)
        buffer.consumed.record(stream)
        buffer.mark("copy in")
        self._graphs.enqueue(batch.shapes, batch.inputs.bind(source), batch.outputs.bind(target), None)
        buffer.mark("compute")
        driver.copy_out(buffer.outputs, target, batch.outputs.nbytes, stream)
        buffer.mark("copy out")


class _Pending:
    """The result of a batch on the stream. Its buffer is free again once it was called, or dropped."""

    def __init__(self, lane: LaneStream, buffer: StagingBuffer, outputs: BufferLayout) -> None:
        self._lane = lane
        self._buffer: StagingBuffer | None = buffer
        self._outputs = outputs

    def __call__(self) -> Arrays:
        buffer = self._buffer
        if buffer is None:
            raise BackendError("this result was called before; call it once and keep what it returns")
        try:
            with self._lane.report_failures():
                buffer.done.wait()
                buffer.write_timeline()
            return self._outputs.unpack(buffer.outputs.array)
        finally:
            self._release()

    def __del__(self) -> None:
        self._release()

    def _release(self) -> None:
        if self._buffer is not None:
            self._buffer.outputs_free.set()
            self._buffer = None

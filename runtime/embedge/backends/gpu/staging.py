"""Staging: memory between prepared arrays and a graph on the GPU, in buffers that take turns.

A staging buffer has page-locked memory for the inputs and the outputs of one batch. While the GPU works on one batch,
the lane packs the next into another buffer. A GPU with its own memory has one block there for inputs and one for
outputs, shared by all buffers: the lane's only stream uses them for one batch after the other. An integrated GPU reads
and writes the staging buffers themselves.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from embedge.backends.base import Arrays
from embedge.backends.gpu.executable import Bindings
from embedge.backends.gpu.timing import BatchTimeline
from embedge.batches.shapes import Shape
from embedge.cuda import CudaError, Driver, Event, Memory, Stream
from embedge.errors import BackendError

__all__ = ["BufferLayout", "Staging", "StagingBuffer"]

ALIGNMENT = 256  # bytes; TensorRT requires it of every address
_POLL_SECONDS = 0.001


class _Region(NamedTuple):
    offset: int
    shape: Shape
    dtype: np.dtype[Any]

    def view(self, memory: NDArray[np.uint8]) -> NDArray[Any]:
        end = self.offset + math.prod(self.shape) * self.dtype.itemsize
        return memory[self.offset : end].view(self.dtype).reshape(self.shape)


class BufferLayout:
    """The places of a batch's tensors in one block of memory. Equal shapes always have equal places.

    Attributes:
        nbytes: Size of the block in bytes.
    """

    def __init__(self, dtypes: Mapping[str, np.dtype[Any]], shapes: Mapping[str, Shape]) -> None:
        """Lay the tensors out one after the other, in the order of `dtypes`."""
        self.nbytes = 0
        self._regions: dict[str, _Region] = {}
        for name, dtype in dtypes.items():
            self._regions[name] = _Region(self.nbytes, shapes[name], dtype)
            self.nbytes += -(-math.prod(shapes[name]) * dtype.itemsize // ALIGNMENT) * ALIGNMENT

    def bind(self, base: int) -> Bindings:
        """Return the address and shape of each tensor in a block that begins at the address `base`."""
        return {name: (base + region.offset, region.shape) for name, region in self._regions.items()}

    def pack(self, feeds: Arrays, memory: NDArray[np.uint8]) -> None:
        """Copy arrays of any strides to their places.

        Args:
            feeds: Arrays by input name, in the layout's shapes.
            memory: The block, `(nbytes,)` uint8 or larger.

        Raises:
            BackendError: An array has another dtype.
        """
        for name, region in self._regions.items():
            if feeds[name].dtype != region.dtype:
                raise BackendError(f"input {name!r} is {feeds[name].dtype}, but the graph takes {region.dtype}")
            np.copyto(region.view(memory), feeds[name])

    def unpack(self, memory: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return copies of the tensors by name, in the layout's shapes and dtypes.

        Args:
            memory: The block, `(nbytes,)` uint8 or larger.
        """
        return {name: region.view(memory).copy() for name, region in self._regions.items()}


class StagingBuffer:
    """Memory and events for one batch in flight. Owned by the lane's thread.

    Attributes:
        number: Its place among the session's buffers.
        inputs: Page-locked memory for the inputs.
        outputs: Page-locked memory for the outputs.
        consumed: Event: the GPU has read the inputs.
        done: Event: the GPU has written the outputs.
        recorded: Whether both events were ever recorded; waiting for one that wasn't is an error.
        outputs_free: Set once the outputs were copied to arrays or dropped. The lane's thread clears it; the thread
            that awaits the result sets it.
    """

    def __init__(self, driver: Driver, number: int, inputs: int, outputs: int) -> None:
        """Allocate `inputs` and `outputs` bytes, and create the events.

        Raises:
            CudaError: Too little memory; nothing stays allocated.
        """
        self.number = number
        held: list[Any] = []
        try:
            held.append(driver.pinned(inputs))
            held.append(driver.pinned(outputs))
            held.append(driver.event())
            held.append(driver.event())
        except CudaError:
            for each in held:
                each.close()
            raise
        self.inputs, self.outputs, self.consumed, self.done = held
        self.recorded = False
        self._timeline: BatchTimeline | None = None
        self.outputs_free = threading.Event()
        self.outputs_free.set()

    def record(self, stream: Stream) -> None:
        """Record both events: the stream has nothing more for this buffer than what is enqueued now."""
        self.consumed.record(stream)
        self.done.record(stream)
        self.recorded = True

    def begin_timeline(self, timeline: BatchTimeline | None) -> None:
        """Take the timeline of the new batch; the one before has been written by now."""
        if self._timeline is not None:
            self._timeline.close()
        self._timeline = timeline

    def mark(self, part: str) -> None:
        """End a part of the batch on its timeline, if it has one."""
        if self._timeline is not None:
            self._timeline.mark(part)

    def write_timeline(self) -> None:
        """Trace the batch, once it is done."""
        if self._timeline is not None:
            self._timeline.write()

    def close(self) -> None:
        """Free the memory and the events."""
        self.begin_timeline(None)
        for each in (self.inputs, self.outputs, self.consumed, self.done):
            each.close()


class Staging:
    """The staging buffers of one session, and its blocks of device memory. Owned by the lane's thread.

    Attributes:
        mapped: Whether the GPU works on the staging buffers themselves.
        nbytes: Largest batch that fits: bytes of inputs, bytes of outputs.
    """

    def __init__(self, driver: Driver, count: int, *, mapped: bool) -> None:
        """Allocate nothing yet; `grow` does.

        Args:
            driver: The GPU.
            count: Number of staging buffers.
            mapped: Whether the GPU works on the staging buffers themselves.
        """
        self.mapped = mapped
        self.nbytes = (0, 0)
        self._driver = driver
        self._count = count
        self._buffers: list[StagingBuffer] = []
        self._device: list[Memory] = []
        self._turn = 0

    def fits(self, inputs: int, outputs: int) -> bool:
        """Return whether a batch of so many bytes fits."""
        return bool(self._buffers) and inputs <= self.nbytes[0] and outputs <= self.nbytes[1]

    def grow(self, inputs: int, outputs: int) -> None:
        """Allocate room for a batch of so many bytes, at new addresses, while nothing is in flight.

        Raises:
            CudaError: Too little memory; nothing fits then.
        """
        wanted = max(inputs, self.nbytes[0], ALIGNMENT), max(outputs, self.nbytes[1], ALIGNMENT)
        self.close()
        try:
            if not self.mapped:
                self._device.extend(self._driver.memory(size) for size in wanted)
            self._buffers.extend(StagingBuffer(self._driver, number, *wanted) for number in range(self._count))
        except CudaError:
            self.close()
            raise
        self.nbytes = wanted

    def next(self) -> StagingBuffer:
        """Return the buffer whose turn it is."""
        self._turn = (self._turn + 1) % self._count
        return self._buffers[self._turn]

    def addresses(self, buffer: StagingBuffer) -> tuple[int, int]:
        """Return the device addresses of a buffer's batch: where the graph reads, and where it writes."""
        if self.mapped:
            return buffer.inputs.pointer, buffer.outputs.pointer
        return self._device[0].pointer, self._device[1].pointer

    def drain(self) -> None:
        """Wait until nothing is in flight.

        Raises:
            CudaError: A batch failed.
        """
        for buffer in self._buffers:
            buffer.outputs_free.wait()  # another thread may be copying from it
            if buffer.recorded:  # nobody may have waited for it
                buffer.done.wait()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until the GPU is through with all batches, or the time is over; return whether it is."""
        end = time.monotonic() + seconds
        for buffer in self._buffers:
            while buffer.recorded and not _over(buffer.done):
                if time.monotonic() > end:
                    return False
                time.sleep(_POLL_SECONDS)
        return True

    def close(self) -> None:
        """Free all of it, once nothing is in flight."""
        holders: tuple[StagingBuffer | Memory, ...] = (*self._buffers, *self._device)
        for each in holders:
            each.close()
        self._buffers.clear()
        self._device.clear()
        self.nbytes = (0, 0)


def _over(event: Event) -> bool:
    """Return whether the GPU is past the event, or never will be: in a broken context nothing runs any more."""
    try:
        return event.done()
    except CudaError as error:
        if not error.fatal:
            raise
        return True

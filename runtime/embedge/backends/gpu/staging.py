"""Staging: the memory between prepared arrays and a graph on the GPU, in sets that take turns.

A set has page-locked memory for the inputs and for the outputs of one batch. While the GPU works on one batch, the next
is packed into another set. A GPU with memory of its own has one buffer there for the inputs and one for the outputs,
which all sets share: the lane's one stream uses them for one batch after the other. An integrated GPU reads and writes
the sets themselves.
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
from embedge.backends.gpu.executable import Bound
from embedge.backends.gpu.timing import Marks
from embedge.batches.shapes import Shape
from embedge.cuda import CudaError, Driver, Event, Memory, Stream
from embedge.errors import BackendError

__all__ = ["BufferLayout", "Staging", "StagingBuffer"]

ALIGNMENT = 256  # bytes; what TensorRT asks of every address that it is given
_POLL_SECONDS = 0.001


class _Region(NamedTuple):
    offset: int
    shape: Shape
    dtype: np.dtype[Any]

    def view(self, memory: NDArray[np.uint8]) -> NDArray[Any]:
        end = self.offset + math.prod(self.shape) * self.dtype.itemsize
        return memory[self.offset : end].view(self.dtype).reshape(self.shape)


class BufferLayout:
    """Where the tensors of a batch are within one block of memory; the same shapes always have the same places."""

    def __init__(self, dtypes: Mapping[str, np.dtype[Any]], shapes: Mapping[str, Shape]) -> None:
        self.nbytes = 0
        self._regions: dict[str, _Region] = {}
        for name, dtype in dtypes.items():
            self._regions[name] = _Region(self.nbytes, shapes[name], dtype)
            self.nbytes += -(-math.prod(shapes[name]) * dtype.itemsize // ALIGNMENT) * ALIGNMENT

    def bound(self, base: int) -> Bound:
        """Return where each tensor is in a block that begins at the address `base`."""
        return {name: (base + region.offset, region.shape) for name, region in self._regions.items()}

    def pack(self, feeds: Arrays, memory: NDArray[np.uint8]) -> None:
        """Copy arrays of any strides to their places. Raises BackendError for one of another dtype."""
        for name, region in self._regions.items():
            if feeds[name].dtype != region.dtype:
                raise BackendError(f"input {name!r} is {feeds[name].dtype}, but the graph takes {region.dtype}")
            np.copyto(region.view(memory), feeds[name])

    def unpack(self, memory: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Return copies of the tensors."""
        return {name: region.view(memory).copy() for name, region in self._regions.items()}


class StagingBuffer:
    """Memory and events for one batch in flight.

    consumed: the GPU has read the inputs. done: it has written the outputs. read: set once the outputs are in arrays of
    their own, or nobody wants them; cleared by the lane's thread, set by the one that waits for the result.
    """

    def __init__(self, driver: Driver, inputs: int, outputs: int) -> None:
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
        self.marked = False  # events that were never recorded cannot be waited for
        self._marks: Marks | None = None
        self.read = threading.Event()
        self.read.set()

    def mark(self, stream: Stream) -> None:
        """Say that the stream has nothing for this set beyond what is on it now."""
        self.consumed.record(stream)
        self.done.record(stream)
        self.marked = True

    def keep(self, marks: Marks | None) -> None:
        """Keep the marks of the new batch; those of the one before are told."""
        if self._marks is not None:
            self._marks.close()
        self._marks = marks

    def ended(self, part: str) -> None:
        """Say that what was enqueued since the last mark is this part of the batch."""
        if self._marks is not None:
            self._marks.end(part)

    def tell(self) -> None:
        """Trace the batch, once it is done."""
        if self._marks is not None:
            self._marks.tell()

    def close(self) -> None:
        """Free it."""
        self.keep(None)
        for each in (self.inputs, self.outputs, self.consumed, self.done):
            each.close()


class Staging:
    """The sets of one session, and its buffers on the device. Owned by the lane's thread."""

    def __init__(self, driver: Driver, sets: int, *, mapped: bool) -> None:
        """`mapped`: the GPU works on the sets themselves. There is no memory before the first `grow`."""
        self.mapped = mapped
        self.nbytes = (0, 0)  # of inputs and outputs that there is room for
        self._driver = driver
        self._count = sets
        self._sets: list[StagingBuffer] = []
        self._device: list[Memory] = []
        self._turn = 0

    def fits(self, inputs: int, outputs: int) -> bool:
        """Return whether there is room for a batch of so many bytes."""
        return bool(self._sets) and inputs <= self.nbytes[0] and outputs <= self.nbytes[1]

    def grow(self, inputs: int, outputs: int) -> None:
        """Make room, at new addresses, while nothing is in flight. Raises CudaError; there is no room then."""
        wanted = max(inputs, self.nbytes[0], ALIGNMENT), max(outputs, self.nbytes[1], ALIGNMENT)
        self.close()
        try:
            if not self.mapped:
                self._device.extend(self._driver.memory(size) for size in wanted)
            self._sets.extend(StagingBuffer(self._driver, *wanted) for _ in range(self._count))
        except CudaError:
            self.close()
            raise
        self.nbytes = wanted

    def next(self) -> tuple[int, StagingBuffer]:
        """Return the set whose turn it is, and its number."""
        self._turn = (self._turn + 1) % self._count
        return self._turn, self._sets[self._turn]

    def addresses(self, place: StagingBuffer) -> tuple[int, int]:
        """Return where the GPU finds the inputs of a set's batch, and where it puts the outputs."""
        if self.mapped:
            return place.inputs.pointer, place.outputs.pointer
        return self._device[0].pointer, self._device[1].pointer

    def drain(self) -> None:
        """Wait until nothing is in flight. Raises CudaError."""
        for each in self._sets:
            each.read.wait()  # another thread may be copying from it
            if each.marked:  # nobody may have waited for it
                each.done.wait()

    def settled(self, seconds: float) -> bool:
        """Wait so long at most until the GPU is through with all batches; return whether it is."""
        end = time.monotonic() + seconds
        for each in self._sets:
            while each.marked and not _over(each.done):
                if time.monotonic() > end:
                    return False
                time.sleep(_POLL_SECONDS)
        return True

    def close(self) -> None:
        """Free all of it, once nothing is in flight."""
        holders: tuple[StagingBuffer | Memory, ...] = (*self._sets, *self._device)
        for each in holders:
            each.close()
        self._sets.clear()
        self._device.clear()
        self.nbytes = (0, 0)


def _over(event: Event) -> bool:
    """Return whether the GPU is past the event, or will never be: in a broken context nothing runs any more."""
    try:
        return event.done()
    except CudaError as error:
        if not error.fatal:
            raise
        return True

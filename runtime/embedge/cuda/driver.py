"""The CUDA functions that the runtime needs: one small protocol, with a module for each library that implements it.

Everything belongs to the device's primary context, which TensorRT, ONNX Runtime and PyTorch use as well. A thread calls
`enter` before it uses the GPU and `leave` at its end. Streams don't wait for the default stream, and a thread that
waits for an event sleeps. Handles and pointers are plain integers, as other libraries take them.

The thread that created a resource closes it, once nothing on the GPU uses it any more. Closing twice is fine, and so is
closing after the context broke or was reset: the resource was freed with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FATAL", "CapturedGraph", "CudaError", "Driver", "Event", "Gpu", "Memory", "Pinned", "Stream"]

# Errors after which every call on the context fails, in any thread, with the driver's messages for them. According to
# cuda.h most leave the process in an inconsistent state; the others end the device or the context itself.
FATAL = {
    "CUDA_ERROR_ASSERT": "device-side assert triggered",
    "CUDA_ERROR_CONTAINED": "Invalid access of peer GPU memory over nvlink or a hardware error",
    "CUDA_ERROR_CONTEXT_IS_DESTROYED": "context is destroyed",
    "CUDA_ERROR_DEINITIALIZED": "driver shutting down",
    "CUDA_ERROR_ECC_UNCORRECTABLE": "uncorrectable ECC error encountered",
    "CUDA_ERROR_EXTERNAL_DEVICE": "an async error has occured in external entity outside of CUDA",
    "CUDA_ERROR_HARDWARE_STACK_ERROR": "hardware stack error",
    "CUDA_ERROR_ILLEGAL_ADDRESS": "an illegal memory access was encountered",
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": "an illegal instruction was encountered",
    "CUDA_ERROR_INVALID_ADDRESS_SPACE": "operation not supported on global/shared address space",
    "CUDA_ERROR_INVALID_PC": "invalid program counter",
    "CUDA_ERROR_LAUNCH_FAILED": "unspecified launch failure",
    "CUDA_ERROR_LAUNCH_TIMEOUT": "the launch timed out and was terminated",
    "CUDA_ERROR_MISALIGNED_ADDRESS": "misaligned address",
    "CUDA_ERROR_MPS_CLIENT_TERMINATED": "the MPS client has been terminated by the server",
    "CUDA_ERROR_NVLINK_UNCORRECTABLE": "uncorrectable NVLink error detected during the execution",
    "CUDA_ERROR_TENSOR_MEMORY_LEAK": "tensor memory not completely freed",
    "CUDA_ERROR_UNKNOWN": "unknown error",
}


class CudaError(RuntimeError):
    """A call to CUDA failed.

    Attributes:
        code: The error's name in cuda.h, such as "CUDA_ERROR_ILLEGAL_ADDRESS".
        message: What failed, and what to do if that is known.
    """

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message

    @property
    def fatal(self) -> bool:
        """Whether the context is broken for every thread. Running out of memory isn't fatal."""
        return self.code in FATAL

    @classmethod
    def from_message(cls, text: str) -> CudaError | None:
        """Return the fatal error that another library's message reports; None if it doesn't."""
        code = next((code for code, words in FATAL.items() if code in text or words in text), None)
        return None if code is None else cls(code, text)


@dataclass(frozen=True)
class Gpu:
    """Properties of a device.

    Attributes:
        index: Its index.
        name: The GPU's name.
        capability: Compute capability, major and minor.
        multiprocessors: Number of streaming multiprocessors.
        memory: Total memory in bytes.
        integrated: Whether it shares the host's memory, as on a Jetson.
        driver: The CUDA version that the driver supports, 12060 for 12.6.
        bus: PCI bus id, such as "0000:01:00.0".
    """

    index: int
    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory: int
    integrated: bool
    driver: int
    bus: str


class Stream(Protocol):
    """A queue of GPU work that runs in order."""

    @property
    def handle(self) -> int:
        """The CUstream."""

    def close(self) -> None:
        """Destroy it. Work enqueued on it still runs."""


class Event(Protocol):
    """A point in a stream's work."""

    @property
    def handle(self) -> int:
        """The CUevent; 0 if the library hides it (pycuda), so other libraries can't use it."""

    def record(self, stream: Stream) -> None:
        """Record it behind all work now on the stream."""

    def wait(self) -> None:
        """Sleep until the work before it is done; other Python threads run meanwhile.

        Raises:
            CudaError: That work failed.
        """

    def done(self) -> bool:
        """Return whether the work before it is done.

        Raises:
            CudaError: That work failed.
        """

    def seconds_since(self, earlier: Event) -> float:
        """Return the seconds since an earlier event. Both have to be done, and created with `timing`."""

    def close(self) -> None:
        """Free it."""


class Pinned(Protocol):
    """Page-locked host memory that the device sees at `pointer`. A thread needs no context to fill it.

    After `close`, `array` raises ValueError. Views taken before keep the memory allocated until the last is gone.
    """

    @property
    def array(self) -> NDArray[np.uint8]:
        """All of it, `(nbytes,)` uint8."""

    @property
    def pointer(self) -> int:
        """Its device address."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    def host(self, offset: int, nbytes: int) -> int:
        """Return the host address of `nbytes` bytes at `offset`.

        Raises:
            ValueError: They are out of bounds, or the memory is closed.
        """

    def close(self) -> None:
        """Free it."""


class Memory(Protocol):
    """Device memory; its pointer is a multiple of 256."""

    @property
    def pointer(self) -> int:
        """Its device address."""

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""

    def close(self) -> None:
        """Free it."""


class CapturedGraph(Protocol):
    """Work captured with its addresses, to be launched as one."""

    def launch(self, stream: Stream) -> None:
        """Enqueue all of it."""

    def close(self) -> None:
        """Free it."""


class Driver(Protocol):
    """One device through one library. All methods but `missing`, `version` and `gpu` need a thread that has entered."""

    @property
    def name(self) -> str:
        """The library: "cuda-python" or "pycuda"."""

    @property
    def captures(self) -> bool:
        """Whether the library can capture work."""

    def missing(self) -> str:
        """Return why it can't run here and what to do about it; an empty string if it can."""

    def version(self) -> str:
        """Return the versions of the library and of CUDA."""

    def gpu(self) -> Gpu:
        """Return the device's properties."""

    def enter(self) -> None:
        """Make the primary context current in this thread."""

    def leave(self) -> None:
        """Undo `enter`. Does nothing without it."""

    def stream(self, *, high: bool = False) -> Stream:
        """Return a new stream; with `high`, of the highest priority, if the library supports priorities."""

    def event(self, *, timing: bool = False) -> Event:
        """Return a new event; with `timing`, one for `seconds_since`."""

    def pinned(self, nbytes: int) -> Pinned:
        """Return `nbytes` bytes of page-locked memory for all contexts, mapped for the device."""

    def memory(self, nbytes: int) -> Memory:
        """Return uninitialized device memory of `nbytes` bytes."""

    def copy_in(self, to: int, source: Pinned, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy of `nbytes` bytes from the host to the device.

        Args:
            to: Device address.
            source: Host memory.
            nbytes: Bytes to copy.
            stream: Runs the copy.
            offset: Bytes into the source.
        """

    def copy_out(self, to: Pinned, source: int, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy of `nbytes` bytes from the device to the host.

        Args:
            to: Host memory.
            source: Device address.
            nbytes: Bytes to copy.
            stream: Runs the copy.
            offset: Bytes into `to`.
        """

    def free_memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of device memory. Raises CudaError if the context is broken."""

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> CapturedGraph:
        """Capture the work that `enqueue` puts on the stream, without running it. Other threads are not disturbed.

        Raises what `enqueue` raises, once the capture has ended.

        Args:
            stream: The stream to capture.
            enqueue: Puts work on that stream.

        Raises:
            CudaError: The work can't be captured.
        """

    def reset(self) -> None:
        """Destroy the primary context and create a new one. Call this with no resources of the old one left.

        The calling thread leaves the old context before, and enters the new one after.

        Raises:
            CudaError: The device stays broken.
        """

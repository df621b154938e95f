"""What the runtime asks of CUDA: one small protocol, with a module for each library that can give it.

Everything is of the device's primary context, which TensorRT, ONNX Runtime and PyTorch use as well. A thread that
touches the GPU says `enter` first and `leave` at its end. Streams do not wait for the default stream, and a thread that
waits for an event sleeps. Handles and pointers are plain integers, as other libraries take them.

Whatever has a `close` is closed by the thread that made it, once nothing on the GPU uses it any more. Closing twice is
fine, as is closing after the context broke or was thrown away: it has been freed with it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FATAL", "CapturedGraph", "CudaError", "Driver", "Event", "Gpu", "Memory", "Pinned", "Stream"]

# Errors after which every later call on the context fails, whoever makes it, with the driver's words for them. cuda.h
# says of most that they leave the process in an inconsistent state; the others end the device or the context itself.
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
    """A call of CUDA failed. code: its name in cuda.h, such as "CUDA_ERROR_ILLEGAL_ADDRESS"."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.message = message

    @property
    def fatal(self) -> bool:
        """Whether the context is dead: nothing of it can be used any more, by no thread. Out of memory is not fatal."""
        return self.code in FATAL

    @classmethod
    def from_message(cls, text: str) -> CudaError | None:
        """Return the fatal error that a message of another library tells of, if it does."""
        code = next((code for code, words in FATAL.items() if code in text or words in text), None)
        return None if code is None else cls(code, text)


@dataclass(frozen=True)
class Gpu:
    """What a device is. memory: bytes in all. driver: the CUDA version its driver supports, 12060 for 12.6.

    integrated: it has no memory of its own, as on a Jetson. bus: its place, "0000:01:00.0".
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
    """Work that is done in order."""

    @property
    def handle(self) -> int:
        """The CUstream."""

    def close(self) -> None:
        """Give it back. What is enqueued on it still runs."""


class Event(Protocol):
    """A point in a stream's work."""

    @property
    def handle(self) -> int:
        """The CUevent; 0 where the library does not tell it (pycuda): then no other library can be given it."""

    def record(self, stream: Stream) -> None:
        """Set it behind all that is enqueued on the stream now."""

    def wait(self) -> None:
        """Sleep until the work before it is done; other threads run meanwhile. Raises CudaError where that failed."""

    def done(self) -> bool:
        """Return whether the work before it is done. Raises CudaError where that failed."""

    def seconds_since(self, earlier: Event) -> float:
        """Return the seconds between two events that are done. Both were made with `timing`."""

    def close(self) -> None:
        """Give it back."""


class Pinned(Protocol):
    """Page-locked memory of the host, which the device sees at `pointer`. The thread that fills it needs no context.

    array: (nbytes,) uint8. It is gone after `close`: asking for it raises ValueError. Where somebody still holds it or
    a view of it then, the memory stays until the last of them is gone, so that nobody reads what is not there.
    """

    @property
    def array(self) -> NDArray[np.uint8]:
        """All of it."""

    @property
    def pointer(self) -> int:
        """The device's address of it."""

    @property
    def nbytes(self) -> int:
        """Its size."""

    def host(self, offset: int, nbytes: int) -> int:
        """Return the host's address of these bytes. Raises ValueError if they are not in it, or it is closed."""

    def close(self) -> None:
        """Give it back."""


class Memory(Protocol):
    """Memory of the device; its pointer is a multiple of 256."""

    @property
    def pointer(self) -> int:
        """The device's address of it."""

    @property
    def nbytes(self) -> int:
        """Its size."""

    def close(self) -> None:
        """Give it back."""


class CapturedGraph(Protocol):
    """Enqueued work that was recorded, with its addresses, to be launched as one."""

    def launch(self, stream: Stream) -> None:
        """Enqueue all of it."""

    def close(self) -> None:
        """Give it back."""


class Driver(Protocol):
    """One device through one library. All but `missing`, `version` and `gpu` need a thread that has entered."""

    @property
    def name(self) -> str:
        """The library: cuda-python or pycuda."""

    @property
    def captures(self) -> bool:
        """Whether it can capture work at all."""

    def missing(self) -> str:
        """Return why it cannot run here and what to do about that, or nothing if it can."""

    def version(self) -> str:
        """Return the versions of the library and of CUDA."""

    def gpu(self) -> Gpu:
        """Return what the device is."""

    def enter(self) -> None:
        """Make the primary context current in this thread."""

    def leave(self) -> None:
        """End what `enter` began; nothing where it did not begin."""

    def stream(self, *, high: bool = False) -> Stream:
        """Return a new stream; `high`: of the highest priority, where there are priorities."""

    def event(self, *, timing: bool = False) -> Event:
        """Return a new event; `timing`: that knows when it happened."""

    def pinned(self, nbytes: int) -> Pinned:
        """Return page-locked memory for all contexts, mapped for the device."""

    def memory(self, nbytes: int) -> Memory:
        """Return memory of the device, with whatever is in it."""

    def copy_in(self, to: int, source: Pinned, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy from the host to the device address `to`; `offset` is into the source."""

    def copy_out(self, to: Pinned, source: int, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy from the device address `source` to the host; `offset` is into `to`."""

    def free_memory(self) -> tuple[int, int]:
        """Return how many bytes of the device are free, and how many there are. Raises what broke the context."""

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> CapturedGraph:
        """Record what `enqueue` puts on the stream, which does not run now. Other threads are not disturbed.

        What `enqueue` raises is raised once the capture is ended. Raises CudaError where the work cannot be captured.
        """

    def reset(self) -> None:
        """Throw the primary context away and begin a new one; nobody may hold anything of the old one.

        The calling thread leaves the old one before, and enters the new one after. Raises CudaError where the device
        stays broken.
        """

"""CUDA through pycuda. It cannot capture, knows no priorities of streams, and does not tell the handle of an event.

Its rules: the primary context is retained once and that one object is shared, since a second one is another context to
it. Each thread pushes it and pops it again; a thread that ends before it popped aborts the process. What is made is
freed where the context is pushed. Its destructors report failures on standard error only.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np

from embedge.cuda import reasons
from embedge.cuda.driver import CapturedGraph, CudaError, Event, Gpu, Memory, Pinned, Stream
from embedge.cuda.owned import HostArray, Life, Owned, release

__all__ = ["PyCudaDriver"]

log = logging.getLogger("embedge.cuda")

_INSTALL = "pip install 'embedge[pycuda]' (it is built here, with a compiler and the headers of CUDA)"
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which pycuda has no name

# pycuda gives only the driver's message. These errors are not fatal; `CudaError.from_message` finds those that are.
_WORDS = {
    "no CUDA-capable device is detected": "CUDA_ERROR_NO_DEVICE",
    "invalid device ordinal": "CUDA_ERROR_INVALID_DEVICE",
    "CUDA driver is a stub library": "CUDA_ERROR_STUB_LIBRARY",
    "OS call failed or operation not supported on this OS": "CUDA_ERROR_OPERATING_SYSTEM",
    "system has unsupported display driver / cuda driver combination": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    "forward compatibility was attempted on non supported HW": "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    "system not yet initialized": "CUDA_ERROR_SYSTEM_NOT_READY",
    "out of memory": "CUDA_ERROR_OUT_OF_MEMORY",
    "too many resources requested for launch": "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    "invalid device context": "CUDA_ERROR_INVALID_CONTEXT",
    "invalid resource handle": "CUDA_ERROR_INVALID_HANDLE",
    "invalid argument": "CUDA_ERROR_INVALID_VALUE",
}

T = TypeVar("T")


class PyCudaDriver:
    """`Driver` of one device, through pycuda."""

    name = "pycuda"
    captures = False

    def __init__(self, device: int) -> None:
        self._index = device
        self._api: Any = None  # the module pycuda.driver, once `missing` has found it
        self._installed = ""
        self._life = Life()
        self._context: Any = None  # retained by the first thread that enters; all threads push this one object
        # Guards the context and its life. Held by `enter` and `reset`; reentrant: the collector may free memory then.
        self._retaining = threading.RLock()
        self._local = threading.local()  # per thread: the lives it pushed

    def missing(self) -> str:
        """Return why it can't run here and what to do about it; an empty string if it can."""
        if why := self._find():
            return why
        try:
            self._ask(self._api.init)
            needed, driver = 1000 * self._api.get_version()[0], self._api.get_driver_version()
            if driver // 1000 < needed // 1000:
                way_out = f"build pycuda with the headers of CUDA {driver // 1000}"
                return reasons.too_old(f"pycuda {self._installed}", needed, driver, way_out)
            count = self._ask(self._api.Device.count)
        except CudaError as error:
            return reasons.refused(error.code, error.message)
        except RuntimeError as error:
            return f"{reasons.NO_DRIVER} ({error})"
        return "" if 0 <= self._index < count else reasons.no_device(self._index, count)

    def _find(self) -> str:
        try:
            import pycuda
            import pycuda.driver as driver
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "pycuda":
                return f"pycuda cannot be imported: {error}; {_INSTALL}"
            return f"pycuda is not installed; {_INSTALL}"
        except ImportError as error:
            if "libcuda.so" in str(error):
                return f"{reasons.NO_DRIVER} ({error})"
            return f"pycuda cannot be imported: {error}; install it anew, against the CUDA that is here: {_INSTALL}"
        self._api, self._installed = driver, str(pycuda.VERSION_TEXT)
        return ""

    def version(self) -> str:
        """Return the versions of the library and of CUDA, with the library's limitation."""
        driver = reasons.version(self._api.get_driver_version())
        return f"pycuda {self._installed}, driver for CUDA {driver}; it cannot capture"

    def gpu(self) -> Gpu:
        """Return the device's properties."""
        device, kinds = self._device(), self._api.device_attribute
        return Gpu(
            index=self._index,
            name=str(device.name()),
            capability=cast(tuple[int, int], tuple(device.compute_capability())),
            multiprocessors=int(device.get_attribute(kinds.MULTIPROCESSOR_COUNT)),
            memory=int(device.total_memory()),
            integrated=bool(device.get_attribute(kinds.INTEGRATED)),
            driver=int(self._api.get_driver_version()),
            bus=str(device.pci_bus_id()),
        )

    def _device(self) -> Any:
        return self._ask(self._api.Device, self._index)

    def enter(self) -> None:
        """Push the primary context in this thread."""
        with self._retaining:
            if self._context is None:
                self._context = self._ask(self._device().retain_primary_context)
            context, life = self._context, self._life
        self._ask(context.push)
        self._pushed().append(life)

    def leave(self) -> None:
        """Pop the context that `enter` pushed. Does nothing without it."""
        if self._pushed():
            if self._pushed().pop().over:
                self._api.Context.get_current()  # takes a destroyed context off this thread's stack
            else:
                self._ask(self._api.Context.pop)

    def _pushed(self) -> list[Life]:
        if not hasattr(self._local, "pushed"):
            self._local.pushed = []
        return cast(list[Life], self._local.pushed)

    def stream(self, *, high: bool = False) -> Stream:
        """Return a new stream. pycuda lacks priorities, so `high` is ignored."""
        return _PyCudaStream(self, self._ask(self._api.Stream, _NON_BLOCKING))

    def event(self, *, timing: bool = False) -> Event:
        """Return a new event; a thread that waits for it sleeps."""
        flags = self._api.event_flags
        chosen = int(flags.BLOCKING_SYNC) | (0 if timing else int(flags.DISABLE_TIMING))
        return _PyCudaEvent(self, self._ask(self._api.Event, chosen))

    def pinned(self, nbytes: int) -> Pinned:
        """Return `nbytes` bytes of page-locked memory for all contexts, mapped for the device."""
        flags = int(self._api.host_alloc_flags.PORTABLE) | int(self._api.host_alloc_flags.DEVICEMAP)
        with self._explained(lambda: reasons.out_of_host_memory(nbytes)):
            whole = self._ask(self._api.pagelocked_empty, nbytes, np.uint8, mem_flags=flags)
        allocation = whole.base
        pointer = int(self._ask(allocation.get_device_pointer))
        return HostArray(whole, pointer, self._freeing(allocation.free))

    def _freeing(self, free: Callable[[], None]) -> Callable[[], None]:
        """Return a function that frees in any thread: the last view of an array may be dropped anywhere."""
        life = self._life

        def entered() -> None:
            self.enter()
            try:
                self._ask(free)
            finally:
                self.leave()

        return lambda: release(life, "pinned memory", entered)

    def memory(self, nbytes: int) -> Memory:
        """Return uninitialized device memory of `nbytes` bytes."""
        with self._explained(lambda: self._full(nbytes)):
            return _PyCudaMemory(self, self._ask(self._api.mem_alloc, nbytes), nbytes)

    def _full(self, wanted: int) -> str:
        return reasons.out_of_memory(wanted, *self.free_memory(), integrated=self.gpu().integrated)

    def copy_in(self, to: int, source: Pinned, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy from the host to the device address `to`."""
        source.host(offset, nbytes)  # checks the bounds: a slice would be cut silently
        self._ask(self._api.memcpy_htod_async, to, source.array[offset : offset + nbytes], _made(stream))

    def copy_out(self, to: Pinned, source: int, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy from the device address `source` to the host."""
        to.host(offset, nbytes)
        self._ask(self._api.memcpy_dtoh_async, to.array[offset : offset + nbytes], source, _made(stream))

    def free_memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of device memory."""
        free, total = self._ask(self._api.mem_get_info)
        return int(free), int(total)

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> CapturedGraph:
        """Raise CudaError: pycuda can't capture."""
        raise CudaError("CUDA_ERROR_NOT_SUPPORTED", "pycuda cannot capture; pip install 'embedge[cuda]' can")

    def reset(self) -> None:
        """Release the primary context and create a new one; works only if no other library holds the old one.

        TensorRT and ONNX Runtime hold it once they have run.

        Raises:
            CudaError: The device stays broken.
        """
        with self._retaining:
            self._life.over, self._life = True, Life()
            retained, self._context = self._context, None
            if retained is not None:
                release(self._life, "the context", lambda: self._let_go(retained))
        try:
            self.enter()
            try:
                self._ask(self._api.mem_alloc, 1).free()
            finally:
                self.leave()
        except CudaError as error:
            text = f"pycuda cannot reset the GPU ({error.message}); restart the process, or pip install 'embedge[cuda]'"
            raise CudaError(error.code, text) from error

    def _let_go(self, retained: Any) -> None:
        self._ask(retained.push)  # another thread may have retained it; only there, or where it is pushed, …
        self._ask(retained.detach)  # … does detach release it. This takes it off this thread's stack as well.

    def _ask(self, function: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call a function of pycuda. Raises CudaError."""
        try:
            return function(*args, **named)
        except self._api.Error as error:
            del function, args  # a traceback holds its frames: pycuda's object would outlive its `close`
            raise _failure(str(error), type(error).__name__) from error

    @contextmanager
    def _explained(self, full: Callable[[], str]) -> Iterator[None]:
        """Explain an error if memory ran out."""
        try:
            yield
        except CudaError as error:
            if error.code != "CUDA_ERROR_OUT_OF_MEMORY":
                raise
            raise CudaError(error.code, full()) from error


class _Made(Owned):
    """A resource that pycuda frees with its object."""

    def __init__(self, provider: PyCudaDriver, made: Any) -> None:
        self._ask = provider._ask
        self._held: Any = made
        super().__init__(provider._life, self._drop)

    @property
    def made(self) -> Any:
        """pycuda's object: it takes no handles, and None for the default stream."""
        return self.opened(self._held)

    def _drop(self) -> None:
        self._held = None


class _PyCudaStream(_Made):
    @property
    def handle(self) -> int:
        return int(self.made.handle)


class _PyCudaEvent(_Made):
    handle = 0  # pycuda hides it

    def record(self, stream: Stream) -> None:
        self._ask(self.made.record, _made(stream))

    def wait(self) -> None:
        self._ask(self.made.synchronize)

    def done(self) -> bool:
        return bool(self._ask(self.made.query))

    def seconds_since(self, earlier: Event) -> float:
        return float(self._ask(self.made.time_since, cast(_PyCudaEvent, earlier).made)) / 1000.0


class _PyCudaMemory(Owned):
    def __init__(self, provider: PyCudaDriver, made: Any, nbytes: int) -> None:
        self._pointer, self.nbytes = int(made), nbytes
        super().__init__(provider._life, lambda: provider._ask(made.free))

    @property
    def pointer(self) -> int:
        return self.opened(self._pointer)


def _failure(words: str, kind: str) -> CudaError:
    code = next((code for known, code in _WORDS.items() if known in words), f"pycuda.{kind}")
    return CudaError.from_message(words) or CudaError(code, words)


def _made(stream: Stream) -> Any:
    return cast(_PyCudaStream, stream).made

"""CUDA through cuda-bindings, NVIDIA's own: functions of the driver, which answer with tuples. It can capture.

Releases before 12.9.1 hold Python's lock while they wait for the GPU, so that all other threads stand still; they are
refused. Since then the functions used here have not changed up to 13.5.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.cuda import reasons
from embedge.cuda.driver import CapturedGraph, CudaError, Event, Gpu, Memory, Pinned, Stream
from embedge.cuda.owned import HostArray, Life, Owned, release

__all__ = ["CudaPythonDriver"]

log = logging.getLogger("embedge.cuda")

_OLDEST = (12, 9, 1)
_INSTALL = "pip install 'embedge[cuda]'"


class CudaPythonDriver:
    """`Driver` of one device, through cuda-python."""

    name = "cuda-python"
    captures = True

    def __init__(self, device: int) -> None:
        self._index = device
        self._api: Any = None  # the module cuda.bindings.driver, once `missing` has found it
        self._installed = ""
        self._life = Life()
        self._context: Any = None  # retained by the first thread that enters
        # Guards the context and its life. Held by `enter` and `reset`; reentrant: the collector may free memory then.
        self._retaining = threading.RLock()
        self._local = threading.local()  # per thread: the context that was current before each `enter`

    def missing(self) -> str:
        """Return why it can't run here and what to do about it; an empty string if it can."""
        if why := self._find():
            return why
        try:
            if code := self._api.cuInit(0)[0]:
                return reasons.refused(code.name, self._words(code))
            if (driver := self._driver()) // 1000 < int(self._installed.partition(".")[0]):
                major = driver // 1000
                way_out = f"pip install 'cuda-bindings=={major}.*'" if major >= 12 else "use pycuda"
                return reasons.too_old(f"cuda-bindings {self._installed}", self._made_for(), driver, way_out)
            count = self._ask(self._api.cuDeviceGetCount())
        except RuntimeError as error:  # the library finds no driver, or not all of it
            return f"{reasons.NO_DRIVER} ({error})"
        return "" if 0 <= self._index < count else reasons.no_device(self._index, count)

    def _find(self) -> str:
        try:
            import cuda.bindings
            from cuda.bindings import driver
        except ModuleNotFoundError as error:
            if str(error.name).partition(".")[0] != "cuda":
                return f"cuda-bindings cannot be imported: {error}; {_INSTALL}"
            return f"cuda-bindings is not installed; {_INSTALL}"
        except ImportError as error:
            return f"cuda-bindings cannot be imported: {error}; {_INSTALL}"
        self._api, self._installed = driver, str(cuda.bindings.__version__)
        if _numbers(self._installed) < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            return (
                f"cuda-bindings {self._installed} is too old: before {oldest}, all threads stand still while one waits "
                f"for the GPU; {_INSTALL}"
            )
        return ""

    def _made_for(self) -> int:
        return int(self._installed.partition(".")[0]) * 1000

    def _driver(self) -> int:
        return int(self._ask(self._api.cuDriverGetVersion()))

    def version(self) -> str:
        """Return the versions of the library and of CUDA."""
        return f"cuda-python {self._installed}, driver for CUDA {reasons.version(self._driver())}"

    def gpu(self) -> Gpu:
        """Return the device's properties."""
        api, device = self._api, self._device()

        def attribute(name: str) -> int:
            wanted = getattr(api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            return int(self._ask(api.cuDeviceGetAttribute(wanted, device)))

        return Gpu(
            index=self._index,
            name=_text(self._ask(api.cuDeviceGetName(256, device))),
            capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
            multiprocessors=attribute("MULTIPROCESSOR_COUNT"),
            memory=int(self._ask(api.cuDeviceTotalMem(device))),
            integrated=bool(attribute("INTEGRATED")),
            driver=self._driver(),
            bus=_text(self._ask(api.cuDeviceGetPCIBusId(32, device))),
        )

    def _device(self) -> Any:
        return self._ask(self._api.cuDeviceGet(self._index))

    def enter(self) -> None:
        """Make the primary context current in this thread."""
        with self._retaining:
            if self._context is None:
                self._context = self._ask(self._api.cuDevicePrimaryCtxRetain(self._device()))
            context, life = self._context, self._life
        before = self._ask(self._api.cuCtxGetCurrent())
        self._ask(self._api.cuCtxSetCurrent(context))
        self._before().append((life, before))

    def leave(self) -> None:
        """Restore the context from before `enter`. Does nothing without it."""
        if self._before():
            life, before = self._before().pop()
            self._ask(self._api.cuCtxSetCurrent(None if life.over else before))

    def _before(self) -> list[tuple[Life, Any]]:
        if not hasattr(self._local, "before"):
            self._local.before = []
        return cast(list[tuple[Life, Any]], self._local.before)

    def stream(self, *, high: bool = False) -> Stream:
        """Return a new stream, with `high` of the highest priority."""
        least, greatest = self._ask(self._api.cuCtxGetStreamPriorityRange())
        flags = int(self._api.CUstream_flags.CU_STREAM_NON_BLOCKING)
        made = self._ask(self._api.cuStreamCreateWithPriority(flags, greatest if high else least))
        return _CudaPythonStream(self, made, self._api.cuStreamDestroy)

    def event(self, *, timing: bool = False) -> Event:
        """Return a new event; a thread that waits for it sleeps."""
        flags = self._api.CUevent_flags
        chosen = int(flags.CU_EVENT_BLOCKING_SYNC) | (0 if timing else int(flags.CU_EVENT_DISABLE_TIMING))
        return _CudaPythonEvent(self, self._ask(self._api.cuEventCreate(chosen)), self._api.cuEventDestroy)

    def pinned(self, nbytes: int) -> Pinned:
        """Return `nbytes` bytes of page-locked memory for all contexts, mapped for the device."""
        flags = int(self._api.CU_MEMHOSTALLOC_PORTABLE) | int(self._api.CU_MEMHOSTALLOC_DEVICEMAP)
        host = int(self._ask(self._api.cuMemHostAlloc(nbytes, flags), lambda: reasons.out_of_host_memory(nbytes)))
        pointer = int(self._ask(self._api.cuMemHostGetDevicePointer(host, 0)))
        whole: NDArray[np.uint8] = np.frombuffer(memoryview((ctypes.c_char * nbytes).from_address(host)), np.uint8)
        return HostArray(whole, pointer, self._freeing(lambda: self._ask(self._api.cuMemFreeHost(host))))

    def _freeing(self, free: Callable[[], object]) -> Callable[[], None]:
        """Return a function that frees in any thread: the last view of an array may be dropped anywhere."""
        life = self._life

        def entered() -> None:
            self.enter()
            try:
                free()
            finally:
                self.leave()

        return lambda: release(life, "pinned memory", entered)

    def memory(self, nbytes: int) -> Memory:
        """Return uninitialized device memory of `nbytes` bytes."""
        return _CudaPythonMemory(self, self._ask(self._api.cuMemAlloc(nbytes), lambda: self._full(nbytes)), nbytes)

    def _full(self, wanted: int) -> str:
        return reasons.out_of_memory(wanted, *self.free_memory(), integrated=self.gpu().integrated)

    def copy_in(self, to: int, source: Pinned, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy from the host to the device address `to`."""
        self._ask(self._api.cuMemcpyHtoDAsync(to, source.host(offset, nbytes), nbytes, stream.handle))

    def copy_out(self, to: Pinned, source: int, nbytes: int, stream: Stream, *, offset: int = 0) -> None:
        """Enqueue a copy from the device address `source` to the host."""
        self._ask(self._api.cuMemcpyDtoHAsync(to.host(offset, nbytes), source, nbytes, stream.handle))

    def free_memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of device memory."""
        free, total = self._ask(self._api.cuMemGetInfo())
        return int(free), int(total)

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> CapturedGraph:
        """Capture the work that `enqueue` puts on the stream; see `Driver.capture`."""
        mode = self._api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._ask(self._api.cuStreamBeginCapture(stream.handle, mode))
        try:
            enqueue()
        except BaseException:
            self._abandon(stream)
            raise
        graph = self._ask(self._api.cuStreamEndCapture(stream.handle))
        try:
            return _CudaPythonGraph(
                self, self._ask(self._api.cuGraphInstantiate(graph, 0)), self._api.cuGraphExecDestroy
            )
        finally:
            self._ask(self._api.cuGraphDestroy(graph))

    def _abandon(self, stream: Stream) -> None:
        """End a failed capture; the stream is as before."""
        code, graph = self._api.cuStreamEndCapture(stream.handle)
        if code:
            log.debug("a capture was abandoned: %s", code.name)
        elif int(graph):
            self._ask(self._api.cuGraphDestroy(graph))

    def reset(self) -> None:
        """Destroy the primary context and create a new one; see `Driver.reset`."""
        with self._retaining:  # to the end: a thread that enters meanwhile would retain the old context
            self._life.over, self._life = True, Life()
            retained, self._context = self._context, None
            device = self._device()
            if retained is not None:  # the new one is retained by `enter`
                release(self._life, "the context", lambda: self._ask(self._api.cuDevicePrimaryCtxRelease(device)))
            try:
                self._ask(self._api.cuDevicePrimaryCtxReset(device))
                self.enter()
                try:
                    self.memory(1).close()
                finally:
                    self.leave()
            except CudaError as error:
                text = f"the GPU stays broken after a reset ({error.message}); restart the process"
                raise CudaError(error.code, text) from error

    def _ask(self, answer: tuple[Any, ...], full: Callable[[], str] | None = None) -> Any:
        """Return a call's results. Raises CudaError; `full` makes its message if memory ran out."""
        code = answer[0]
        if code:
            out = code.name == "CUDA_ERROR_OUT_OF_MEMORY"
            raise CudaError(code.name, full() if out and full is not None else self._words(code))
        return answer[1] if len(answer) == 2 else answer[1:]

    def _words(self, code: Any) -> str:
        return _text(self._api.cuGetErrorString(code)[1] or b"")


class _Handle(Owned):
    """A resource with a CUDA handle."""

    def __init__(self, provider: CudaPythonDriver, made: Any, destroy: Callable[[Any], tuple[Any]]) -> None:
        self._handle = int(made)
        self._ask, self._api = provider._ask, provider._api
        super().__init__(provider._life, lambda: provider._ask(destroy(made)))

    @property
    def handle(self) -> int:
        return self.opened(self._handle)


class _CudaPythonStream(_Handle): ...


class _CudaPythonEvent(_Handle):
    def record(self, stream: Stream) -> None:
        self._ask(self._api.cuEventRecord(self.handle, stream.handle))

    def wait(self) -> None:
        self._ask(self._api.cuEventSynchronize(self.handle))

    def done(self) -> bool:
        (code,) = answer = self._api.cuEventQuery(self.handle)
        if code == self._api.CUresult.CUDA_ERROR_NOT_READY:
            return False
        self._ask(answer)
        return True

    def seconds_since(self, earlier: Event) -> float:
        return float(self._ask(self._api.cuEventElapsedTime(earlier.handle, self.handle))) / 1000.0


class _CudaPythonGraph(_Handle):
    def launch(self, stream: Stream) -> None:
        self._ask(self._api.cuGraphLaunch(self.handle, stream.handle))


class _CudaPythonMemory(Owned):
    def __init__(self, provider: CudaPythonDriver, made: Any, nbytes: int) -> None:
        self._pointer, self.nbytes = int(made), nbytes
        super().__init__(provider._life, lambda: provider._ask(provider._api.cuMemFree(made)))

    @property
    def pointer(self) -> int:
        return self.opened(self._pointer)


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode(errors="replace")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())

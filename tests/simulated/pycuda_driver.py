"""The simulated `pycuda.driver`: what lanes need of pycuda 2026.1, with its context stacks and its destructors."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tests.simulated import enums, pycuda_contexts
from tests.simulated.machine import Machine
from tests.simulated.pycuda_contexts import Bound, Context, Dependent, Stacks, calls

__all__ = ["VERSION", "build"]

VERSION = "2026.1"


class Stream(Dependent):
    _handle = 0  # where it could not be made, and has no destructor

    @calls("cuStreamCreate")
    def __init__(self, flags: int = 0) -> None:
        self._join()
        self._handle = self._machine().stream(blocking=not flags & enums.CUstream_flags.CU_STREAM_NON_BLOCKING).handle

    def __del__(self) -> None:
        if self._handle:
            self._clean_up(lambda: self._machine().destroy_stream(self._handle))

    @property
    def handle(self) -> int:
        return self._handle

    @calls("cuStreamSynchronize")
    def synchronize(self) -> None:
        self._machine().synchronise_stream(self._handle)

    @calls("cuStreamQuery")
    def is_done(self) -> bool:
        return self._machine().query_stream(self._handle)

    @calls("cuStreamWaitEvent")
    def wait_for_event(self, evt: Event) -> None:
        self._machine().wait_for(self._handle, evt._handle)


class Event(Dependent):
    _handle = 0

    @calls("cuEventCreate")
    def __init__(self, flags: int = 0) -> None:
        self._join()
        timing = not int(flags) & enums.CUevent_flags.CU_EVENT_DISABLE_TIMING
        self._handle = self._machine().event(timing=timing).handle

    def __del__(self) -> None:
        if self._handle:
            self._clean_up(lambda: self._machine().destroy_event(self._handle))

    @calls("cuEventRecord")
    def record(self, stream: Stream | None = None) -> Event:
        self._machine().record(self._handle, stream.handle if stream else 0)
        return self

    @calls("cuEventSynchronize")
    def synchronize(self) -> Event:
        self._machine().synchronise(self._handle)
        return self

    @calls("cuEventQuery")
    def query(self) -> bool:
        return self._machine().query(self._handle)

    @calls("cuEventElapsedTime")
    def time_since(self, event: Event) -> float:
        return self._machine().elapsed(event._handle, self._handle) * 1000.0

    @calls("cuEventElapsedTime")
    def time_till(self, event: Event) -> float:
        return self._machine().elapsed(self._handle, event._handle) * 1000.0


class DeviceAllocation(Dependent):
    """Made by mem_alloc only."""

    _pointer = 0

    @classmethod
    def _of(cls, nbytes: int) -> DeviceAllocation:
        self = cls.__new__(cls)
        self._join()
        self._pointer = cls._machine().allocate(nbytes).base
        return self

    def __int__(self) -> int:
        return self._pointer

    __index__ = __int__

    @calls("device_allocation::free")
    def free(self) -> None:
        if self._context is None:
            self._machine().violate("pycuda: device memory is freed twice", "CUDA_ERROR_INVALID_HANDLE")
        self._clean_up(lambda: self._machine().free(self._pointer))

    def __del__(self) -> None:
        if self._pointer:
            self._clean_up(lambda: self._machine().free(self._pointer))


class PagelockedHostAllocation(Dependent):
    """The base of an array of pagelocked_empty."""

    _region: Any = None

    @classmethod
    def _of(cls, shape: Sequence[int], dtype: DTypeLike, flags: int) -> NDArray[Any]:
        self = cls.__new__(cls)
        self._join()
        wanted = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
        mapped = bool(flags & host_alloc_flags.DEVICEMAP)
        self._region = cls._machine().pin(nbytes, mapped=mapped)
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(shape),
            "typestr": wanted.str,
            "data": (self._region.host, False),
        }
        return np.asarray(self)

    @calls("cuMemHostGetDevicePointer")
    def get_device_pointer(self) -> int:
        return self._machine().device_pointer(self._region.host)

    @calls("pagelocked_host_allocation::free")
    def free(self) -> None:
        if self._context is None:
            self._machine().violate("pycuda: pinned memory is freed twice", "CUDA_ERROR_INVALID_HANDLE")
        self._clean_up(lambda: self._machine().free(self._region.host, host=True))

    def __del__(self) -> None:
        if self._region is not None:
            self._clean_up(lambda: self._machine().free(self._region.host, host=True))


class Device(Bound):
    @calls("cuDeviceGet")
    def __init__(self, ordinal: int) -> None:
        self._ordinal = self._machine().ordinal(ordinal)

    @classmethod
    @calls("cuDeviceGetCount")
    def count(cls) -> int:
        return cls._machine().device.count

    def name(self) -> str:
        return self._machine().device.name

    def pci_bus_id(self) -> str:
        return self._machine().device.bus

    def compute_capability(self) -> tuple[int, int]:
        return self._machine().device.capability

    def total_memory(self) -> int:
        return self._machine().device.memory

    @calls("cuDeviceGetAttribute")
    def get_attribute(self, attribute: int) -> int:
        return self._machine().device.attribute(device_attribute(attribute).name)

    @calls("cuDevicePrimaryCtxRetain")
    def retain_primary_context(self) -> Context:
        return self._stacks.context._retained()


class host_alloc_flags:  # noqa: N801 -- its name in pycuda
    PORTABLE = 1
    DEVICEMAP = 2
    WRITECOMBINED = 4


def _named(name: str, members: type[IntEnum], prefix: str) -> type[IntEnum]:
    return IntEnum(name, {each.name.removeprefix(prefix): each.value for each in members})


device_attribute = _named("device_attribute", enums.CUdevice_attribute, "CU_DEVICE_ATTRIBUTE_")
event_flags = _named("event_flags", enums.CUevent_flags, "CU_EVENT_")
ctx_flags = _named("ctx_flags", enums.CUctx_flags, "CU_CTX_")


class Functions:
    """The functions of the module."""

    def __init__(self, machine: Machine, kinds: dict[str, type]) -> None:
        self._machine = machine
        self._kinds = kinds

    @calls("cuInit")
    def init(self, flags: int = 0) -> None:
        self._machine.init()

    def get_version(self) -> tuple[int, int, int]:
        return 13, 0, 0

    def get_driver_version(self) -> int:
        return self._machine.device.driver

    @calls("cuMemGetInfo")
    def mem_get_info(self) -> tuple[int, int]:
        return self._machine.memory_info()

    @calls("cuMemAlloc")
    def mem_alloc(self, nbytes: int) -> DeviceAllocation:
        return self._kinds["DeviceAllocation"]._of(nbytes)

    @calls("cuMemHostAlloc")
    def pagelocked_empty(
        self, shape: int | Sequence[int], dtype: DTypeLike, order: str = "C", mem_flags: int = 0
    ) -> NDArray[Any]:
        shape = (shape,) if isinstance(shape, int) else shape
        return self._kinds["PagelockedHostAllocation"]._of(shape, dtype, mem_flags)

    @calls("cuMemcpyHtoDAsync")
    def memcpy_htod_async(self, dest: Any, src: NDArray[Any], stream: Stream | None = None) -> None:
        self._machine.copy_in(int(dest), *extent(src), stream.handle if stream else 0)

    @calls("cuMemcpyDtoHAsync")
    def memcpy_dtoh_async(self, dest: NDArray[Any], src: Any, stream: Stream | None = None) -> None:
        address, nbytes = extent(dest)
        self._machine.copy_out(address, int(src), nbytes, stream.handle if stream else 0)

    @calls("cuMemcpyDtoDAsync")
    def memcpy_dtod_async(self, dest: Any, src: Any, size: int, stream: Stream | None = None) -> None:
        self._machine.copy(int(dest), int(src), size, stream.handle if stream else 0)


def extent(array: NDArray[Any]) -> tuple[int, int]:
    """Return the address and the bytes of a contiguous array; the real one takes no other."""
    if not (array.flags.c_contiguous or array.flags.f_contiguous):
        raise BufferError("ndarray is not contiguous")
    return array.ctypes.data, array.nbytes


def build(machine: Machine) -> ModuleType:
    """Return the module over a machine."""
    module = ModuleType("pycuda.driver")
    stacks = Stacks(machine)
    machine.at_close(stacks.check)
    bound = (Context, Stream, Event, DeviceAllocation, PagelockedHostAllocation, Device)
    kinds = {kind.__name__: type(kind.__name__, (kind,), {"_stacks": stacks}) for kind in bound}
    stacks.context = kinds["Context"]
    functions = Functions(machine, kinds)
    module.__dict__.update(kinds)
    module.__dict__.update({name: getattr(functions, name) for name in vars(Functions) if not name.startswith("_")})
    for name in ("Error", "MemoryError", "LogicError", "LaunchError", "RuntimeError"):
        setattr(module, name, getattr(pycuda_contexts, name))
    module.host_alloc_flags, module.device_attribute = host_alloc_flags, device_attribute
    module.event_flags, module.ctx_flags = event_flags, ctx_flags
    return module

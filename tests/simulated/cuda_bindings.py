"""The simulated `cuda.bindings.driver`: names, parameters, enumerations and tuples of cuda-bindings 13 (and 12.6).

It has nothing that the real one lacks; `test_conformance` compares them where the real wheel is at hand.
"""

# ruff: noqa: N802, N803 -- the names are CUDA's

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import IntEnum
from types import ModuleType
from typing import Any

import numpy as np

from tests.simulated import enums
from tests.simulated.cuda_handles import (
    HANDLES,
    CUcontext,
    CUdevice,
    CUdeviceptr,
    CUevent,
    CUgraph,
    CUgraphExec,
    CUstream,
    CUuuid,
    number,
)
from tests.simulated.enums import CUevent_flags, CUresult, CUstream_flags, CUstreamCaptureMode, CUstreamCaptureStatus
from tests.simulated.errors import TEXTS, Failure
from tests.simulated.machine import Machine

__all__ = ["VERSION", "build"]

VERSION = "13.5.0"
_BUFFER = b" "  # what the real one leaves after the zero byte of a name


def call(outputs: int = 0) -> Callable[[Callable[..., Any]], Callable[..., tuple[Any, ...]]]:
    """Make a method a CUDA call: it returns a tuple of the result code and so many outputs, None where it fails."""

    def decorate(method: Callable[..., Any]) -> Callable[..., tuple[Any, ...]]:
        @functools.wraps(method)
        def called(*args: Any, **kwargs: Any) -> tuple[Any, ...]:
            try:
                value = method(*args, **kwargs)
            except Failure as failure:
                return (CUresult[failure.code], *[None] * outputs)
            values = value if outputs > 1 else (value,) * outputs
            return (CUresult.CUDA_SUCCESS, *values)

        return called

    return decorate


def member(value: Any, kind: type[IntEnum]) -> IntEnum:
    """Return a member of an enumeration; like the real one, take no plain integer for it."""
    if not isinstance(value, kind):
        raise TypeError(f"an argument has incorrect type (expected {kind}, got {type(value)})")
    return value


def address(host: Any) -> int:
    """Return the address of host memory, given as an integer or as an object with a buffer."""
    return int(host) if isinstance(host, int) else np.frombuffer(host, np.uint8).ctypes.data


def padded(text: str, length: int) -> bytes:
    """Return a C string in a buffer of this length, as the real one does."""
    return (text.encode() + b"\0").ljust(length, _BUFFER)[:length]


class Driver:
    """The functions. One a machine."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @call()
    def cuInit(self, Flags):
        self._machine.init()

    @call(1)
    def cuDriverGetVersion(self):
        return self._machine.device.driver

    @call(1)
    def cuGetErrorName(self, error):
        return member(error, CUresult).name.encode()

    @call(1)
    def cuGetErrorString(self, error):
        return TEXTS.get(member(error, CUresult).name, "unrecognized error code").encode()

    @call(1)
    def cuDeviceGet(self, ordinal):
        return CUdevice(self._machine.ordinal(ordinal))

    @call(1)
    def cuDeviceGetCount(self):
        return self._machine.device.count

    @call(1)
    def cuDeviceGetName(self, length, dev):
        self._device(dev)
        return padded(self._machine.device.name, length)

    @call(1)
    def cuDeviceGetUuid(self, dev):
        self._device(dev)
        return CUuuid(self._machine.device.uuid)

    @call(1)
    def cuDeviceGetPCIBusId(self, length, dev):
        self._device(dev)
        return padded(self._machine.device.bus, length)

    @call(1)
    def cuDeviceTotalMem(self, dev):
        self._device(dev)
        return self._machine.device.memory

    @call(1)
    def cuDeviceGetAttribute(self, attrib, dev):
        self._device(dev)
        name = member(attrib, enums.CUdevice_attribute).name
        return self._machine.device.attribute(name.removeprefix("CU_DEVICE_ATTRIBUTE_"))

    def _device(self, dev):
        self._machine.ordinal(number(dev, CUdevice))

    @call(1)
    def cuDevicePrimaryCtxRetain(self, dev):
        self._device(dev)
        return CUcontext(self._machine.retain().handle)

    @call()
    def cuDevicePrimaryCtxRelease(self, dev):
        self._device(dev)
        self._machine.release()

    @call()
    def cuDevicePrimaryCtxReset(self, dev):
        self._device(dev)
        self._machine.reset()

    @call()
    def cuDevicePrimaryCtxSetFlags(self, dev, flags):
        self._device(dev)

    @call(2)
    def cuDevicePrimaryCtxGetState(self, dev):
        self._device(dev)
        return 0, int(self._machine.contexts.primary is not None)

    @call()
    def cuCtxSetCurrent(self, ctx):
        with self._machine.lock:
            self._machine.contexts.set(number(ctx, CUcontext))

    @call(1)
    def cuCtxGetCurrent(self):
        with self._machine.lock:
            stack = self._machine.contexts.stack
            return CUcontext(stack[-1].handle if stack else 0)

    @call()
    def cuCtxPushCurrent(self, ctx):
        with self._machine.lock:
            self._machine.contexts.push(number(ctx, CUcontext))

    @call(1)
    def cuCtxPopCurrent(self):
        with self._machine.lock:
            return CUcontext(self._machine.contexts.pop().handle)

    @call(2)
    def cuCtxGetStreamPriorityRange(self):
        with self._machine.lock:
            self._machine.contexts.current()
        return 0, -5

    @call()
    def cuCtxSynchronize(self):
        self._machine.synchronise_context()

    @call(2)
    def cuMemGetInfo(self):
        return self._machine.memory_info()

    @call(1)
    def cuMemAlloc(self, bytesize):
        return CUdeviceptr(self._machine.allocate(bytesize).base)

    @call()
    def cuMemFree(self, dptr):
        self._machine.free(number(dptr, CUdeviceptr))

    @call(1)
    def cuMemHostAlloc(self, bytesize, Flags):
        return self._machine.pin(bytesize, mapped=bool(Flags & CU_MEMHOSTALLOC_DEVICEMAP)).host

    @call()
    def cuMemFreeHost(self, p):
        self._machine.free(address(p), host=True)

    @call(1)
    def cuMemHostGetDevicePointer(self, p, Flags):
        return CUdeviceptr(self._machine.device_pointer(address(p)))

    @call()
    def cuMemcpyHtoDAsync(self, dstDevice, srcHost, ByteCount, hStream):
        self._machine.copy_in(number(dstDevice, CUdeviceptr), address(srcHost), ByteCount, number(hStream, CUstream))

    @call()
    def cuMemcpyDtoHAsync(self, dstHost, srcDevice, ByteCount, hStream):
        self._machine.copy_out(address(dstHost), number(srcDevice, CUdeviceptr), ByteCount, number(hStream, CUstream))

    @call()
    def cuMemcpyDtoDAsync(self, dstDevice, srcDevice, ByteCount, hStream):
        pointers = number(dstDevice, CUdeviceptr), number(srcDevice, CUdeviceptr)
        self._machine.copy(*pointers, ByteCount, number(hStream, CUstream))

    @call(1)
    def cuStreamCreate(self, Flags):
        return CUstream(self._machine.stream(blocking=not Flags & CUstream_flags.CU_STREAM_NON_BLOCKING).handle)

    @call(1)
    def cuStreamCreateWithPriority(self, flags, priority):
        return CUstream(self._machine.stream(blocking=not flags & CUstream_flags.CU_STREAM_NON_BLOCKING).handle)

    @call()
    def cuStreamDestroy(self, hStream):
        self._machine.destroy_stream(number(hStream, CUstream))

    @call()
    def cuStreamSynchronize(self, hStream):
        self._machine.synchronise_stream(number(hStream, CUstream))

    @call()
    def cuStreamQuery(self, hStream):
        if not self._machine.query_stream(number(hStream, CUstream)):
            raise Failure("CUDA_ERROR_NOT_READY")

    @call()
    def cuStreamWaitEvent(self, hStream, hEvent, Flags):
        self._machine.wait_for(number(hStream, CUstream), number(hEvent, CUevent))

    @call(1)
    def cuEventCreate(self, Flags):
        return CUevent(self._machine.event(timing=not Flags & CUevent_flags.CU_EVENT_DISABLE_TIMING).handle)

    @call()
    def cuEventRecord(self, hEvent, hStream):
        self._machine.record(number(hEvent, CUevent), number(hStream, CUstream))

    @call()
    def cuEventQuery(self, hEvent):
        if not self._machine.query(number(hEvent, CUevent)):
            raise Failure("CUDA_ERROR_NOT_READY")

    @call()
    def cuEventSynchronize(self, hEvent):
        self._machine.synchronise(number(hEvent, CUevent))

    @call(1)
    def cuEventElapsedTime(self, hStart, hEnd):
        return self._machine.elapsed(number(hStart, CUevent), number(hEnd, CUevent)) * 1000.0

    @call()
    def cuEventDestroy(self, hEvent):
        self._machine.destroy_event(number(hEvent, CUevent))

    @call()
    def cuStreamBeginCapture(self, hStream, mode):
        name = member(mode, CUstreamCaptureMode).name.removeprefix("CU_STREAM_CAPTURE_MODE_").lower()
        self._machine.begin_capture(number(hStream, CUstream), name)

    @call(1)
    def cuStreamEndCapture(self, hStream):
        return CUgraph(self._machine.end_capture(number(hStream, CUstream)).handle)

    @call(1)
    def cuStreamIsCapturing(self, hStream):
        status = self._machine.capture_status(number(hStream, CUstream))
        return CUstreamCaptureStatus[f"CU_STREAM_CAPTURE_STATUS_{status.upper()}"]

    @call(1)
    def cuGraphInstantiate(self, hGraph, flags):
        return CUgraphExec(self._machine.instantiate(number(hGraph, CUgraph)).handle)

    @call()
    def cuGraphLaunch(self, hGraphExec, hStream):
        self._machine.launch(number(hGraphExec, CUgraphExec), number(hStream, CUstream))

    @call()
    def cuGraphDestroy(self, hGraph):
        self._machine.destroy_graph(number(hGraph, CUgraph))

    @call()
    def cuGraphExecDestroy(self, hGraphExec):
        self._machine.destroy_exec(number(hGraphExec, CUgraphExec))


CU_MEMHOSTALLOC_PORTABLE = 1
CU_MEMHOSTALLOC_DEVICEMAP = 2
CU_MEMHOSTALLOC_WRITECOMBINED = 4
FLAGS = ("CU_MEMHOSTALLOC_PORTABLE", "CU_MEMHOSTALLOC_DEVICEMAP", "CU_MEMHOSTALLOC_WRITECOMBINED")


def build(machine: Machine) -> ModuleType:
    """Return the module over a machine."""
    module = ModuleType("cuda.bindings.driver")
    driver = Driver(machine)
    functions = {name: each for name, each in inspect.getmembers(driver, callable) if name.startswith("cu")}
    constants = {name: globals()[name] for name in FLAGS}
    kinds = {name: getattr(enums, name) for name in enums.__all__}
    module.__dict__.update(functions | constants | kinds | {each.__name__: each for each in HANDLES})
    return module

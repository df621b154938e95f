"""The ground of the machine: rules, handles, contexts, memory."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tests.simulated.capture import Exec, Graph
from tests.simulated.clock import Clock, Cost
from tests.simulated.contexts import Context, Contexts
from tests.simulated.device import Device
from tests.simulated.errors import Failure, Violation
from tests.simulated.faults import Faults
from tests.simulated.memory import Memory, Region, Span
from tests.simulated.single import Single
from tests.simulated.streams import Event, Scheduler, Stream

__all__ = ["Core"]

T = TypeVar("T")


class Core:
    """What every call begins with, and what is allocated."""

    def __init__(self, *, order: str = "late", seed: int = 0, device: Device | None = None) -> None:
        self.device = device or Device()
        self.cost = Cost()
        self.violations: list[str] = []
        self.may_leak = False  # for tests of what is left behind on purpose, as on a GPU that hangs
        self.lock = threading.RLock()  # owned by the thread whose call is being served
        self.clock = Clock()
        self.memory = Memory(self.device.memory, self.violate, shared=self.device.integrated)
        self.scheduler = Scheduler(order, seed, self.lock, self.clock, self.violations.append)
        self.faults = Faults(self.scheduler, self.lock)
        self._handles = itertools.count(0x1000, 0x10)  # one sequence for all kinds: a mixed-up handle is noticed
        self.contexts = Contexts(self._new_handle, self.violate)
        self._objects: dict[int, Stream | Event | Graph | Exec] = {}
        self.initialised = False
        self._checks: list[Callable[[], None]] = []

    # --- rules -------------------------------------------------------------------------------------------------------

    def violate(self, message: str, code: str = "") -> NoReturn:
        """Remember a broken rule and raise it: as the failure that a real GPU answers with, if it has one."""
        self.remember(message)
        if code:
            raise Failure(code, message)
        raise Violation(message)

    def remember(self, message: str) -> None:
        """Remember a broken rule where nobody can be told."""
        with self.lock:
            self.violations.append(message)

    def at_close(self, check: Callable[[], None]) -> None:
        """Run a check at the end of the test, which remembers what it finds."""
        self._checks.append(check)

    def forgive(self) -> list[str]:
        """Return the violations so far and forget them: for tests that break a rule on purpose."""
        with self.lock:
            found = list(self.violations)
            self.violations.clear()
        return found

    def single(self, name: str) -> Single:
        """Return a guard for an object that one thread at a time may own."""
        return Single(name, self.violate)

    def close(self) -> list[str]:
        """End the test: add what was leaked to the violations, and return all."""
        with self.lock:
            for check in self._checks:
                check()
            if not self.may_leak:
                self.violations += self._leaks()
            for region in self.memory.written_after_free():
                self.violations.append(f"pinned memory at {region.host:#x} was written to after it was freed")
            return list(self.violations)

    def _leaks(self) -> list[str]:
        kinds = [f"{type(each).__name__.lower()} {each.handle:#x}" for each in self._objects.values()]
        for region in self.memory.alive():
            kinds.append(f"{region.nbytes} bytes of {'pinned' if region.host else 'device'} memory")
        return [f"leaked: {kind}" for kind in kinds]

    # --- calls -------------------------------------------------------------------------------------------------------

    def init(self) -> None:
        """Start the driver; as with the real bindings, an exception of no CUDA kind where there is no driver."""
        if not self.device.installed:
            raise RuntimeError("Failed to dlopen libcuda.so.1")
        if self.device.count == 0:
            raise Failure("CUDA_ERROR_NO_DEVICE")
        self.initialised = True

    def ordinal(self, number: int) -> int:
        self._started()
        if not 0 <= number < self.device.count:
            raise Failure("CUDA_ERROR_INVALID_DEVICE", f"there is no device {number}")
        return number

    def _started(self) -> None:
        if not self.initialised:
            self.violate("cuInit was not called", "CUDA_ERROR_NOT_INITIALIZED")

    def _enter(self, *, captured: bool = True) -> Context:
        """Begin a call that needs a context; captured: whether it is allowed in a thread that is capturing."""
        self._started()
        self.contexts.current()
        if not captured:
            self._forbid_in_capture()
        self.scheduler.progress()
        return self.contexts.current()

    def _forbid_in_capture(self, *, everywhere: bool = False) -> None:
        for stream in self.scheduler.streams.values():
            capture = stream.capture
            if capture and (everywhere or capture.forbids(threading.current_thread())):
                capture.broken = True
                self.violate("a call that a capture does not allow", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def _new_handle(self) -> int:
        return next(self._handles)

    def _add(self, made: T) -> T:
        self._objects[made.handle] = made
        return made

    def _get(self, handle: int, kind: type[T]) -> T:
        if kind is Stream and handle in (0, 1, 2):
            self.violate("the null stream was used: it waits for all others, and they for it")
        found = self._objects.get(handle)
        if not isinstance(found, kind):
            name = kind.__name__.lower()
            self.violate(f"{handle:#x} is no {name}, or no longer one", "CUDA_ERROR_INVALID_HANDLE")
        return found

    # --- contexts ----------------------------------------------------------------------------------------------------

    def retain(self) -> Context:
        with self.lock:
            self._started()
            return self.contexts.retain()

    def release(self) -> None:
        with self.lock:
            self._started()
            if (last := self.contexts.release()) is not None:
                self._destroy(last)

    def reset(self) -> None:
        """Throw the primary context away with all that was made in it."""
        with self.lock:
            self._started()
            if self.contexts.primary is not None:
                self._destroy(self.contexts.primary)

    def _destroy(self, context: Context) -> None:
        streams = [each for each in self.scheduler.streams.values() if each.context is context]
        if not context.dead and any(each.queue for each in streams) and not any(each.hung for each in streams):
            self.violations.append("the context was destroyed with work in flight")
        self.scheduler.kill(context, "CUDA_ERROR_CONTEXT_IS_DESTROYED")
        self.contexts.destroy(context)
        for handle, each in list(self._objects.items()):
            if each.context is context:
                del self._objects[handle]
                self.scheduler.streams.pop(handle, None)
        for region in self.memory.alive(context):
            self.memory.release(region)

    # --- memory ------------------------------------------------------------------------------------------------------

    def memory_info(self) -> tuple[int, int]:
        """Return free and all bytes of the device."""
        with self.lock:
            self._enter()
            return self.memory.free, self.memory.capacity

    def allocate(self, nbytes: int) -> Region:
        with self.lock:
            return self.memory.allocate(nbytes, self._enter(captured=False))

    def pin(self, nbytes: int, *, mapped: bool) -> Region:
        with self.lock:
            return self.memory.pin(nbytes, self._enter(captured=False), mapped=mapped)

    def device_pointer(self, address: int) -> int:
        """Return the device's address of mapped pinned memory, given the host's."""
        with self.lock:
            self._enter()
            region = self.memory.on_host(address, 1).region
            if not region.base:
                raise Failure("CUDA_ERROR_INVALID_VALUE", "this pinned memory is not mapped")
            return region.base + address - region.host

    def free(self, address: int, *, host: bool = False) -> None:
        """Free device or pinned memory; a violation while work in flight touches it."""
        with self.lock:
            failure = self._enter_to_free()
            region = self.memory.starting_at(address, host=host)
            used = [op.name for op in self.scheduler.pending() if op.touches(Span(region, 0, region.nbytes))]
            self.memory.release(region)
            if used:
                self.violate(f"memory is freed while {used[0]} is in flight")
            if failure:
                raise failure

    def _enter_to_free(self, *, captured: bool = False) -> Failure | None:
        """Begin a call that gives something back; in a dead context it does, and fails."""
        self._started()
        try:
            self._enter(captured=captured)
        except Failure as failure:
            if not self.contexts.stack or not self.contexts.stack[-1].dead or self.contexts.stack[-1].destroyed:
                raise
            return failure
        return None

    def read(self, pointer: int, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Return a copy of what is at a device address: for kernels, and for tests that look in."""
        return self._view(pointer, shape, dtype, write=False).copy()

    def write(self, pointer: int, array: NDArray[Any]) -> None:
        """Write an array to a device address: for kernels."""
        self._view(pointer, array.shape, array.dtype, write=True)[...] = array

    def _view(self, pointer: int, shape: Sequence[int], dtype: DTypeLike, *, write: bool) -> NDArray[Any]:
        wanted = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * wanted.itemsize
        with self.lock:
            if pointer % wanted.itemsize:
                self.violate(f"{pointer:#x} is not aligned to {wanted}", "CUDA_ERROR_MISALIGNED_ADDRESS")
            span = self.memory.at(pointer, nbytes)
            op = self.scheduler.running
            told = () if op is None else op.writes if write else (*op.reads, *op.writes)
            if op is not None and not any(each.holds(span) for each in told):
                self.violate(f"{op.name} touches memory at {pointer:#x} that it did not name")
            return span.data.view(wanted).reshape(tuple(shape))

"""pycuda's exceptions, its stack of contexts in each thread, and its rules of who may free what where."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from tests.simulated.errors import TEXTS, Failure, Violation
from tests.simulated.machine import Machine

__all__ = [
    "Bound",
    "Context",
    "Dependent",
    "Error",
    "LaunchError",
    "LogicError",
    "MemoryError",
    "RuntimeError",
    "Stacks",
    "calls",
]

_LAUNCH = {"CUDA_ERROR_LAUNCH_FAILED", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", "CUDA_ERROR_LAUNCH_TIMEOUT"}
_RUNTIME = {"CUDA_ERROR_NO_DEVICE", "CUDA_ERROR_NOT_READY", "CUDA_ERROR_FILE_NOT_FOUND"}


class Error(Exception):
    pass


class MemoryError(Error):  # noqa: A001 -- its name in pycuda
    pass


class LogicError(Error):
    pass


class LaunchError(Error):
    pass


class RuntimeError(Error):  # noqa: A001 -- its name in pycuda
    pass


def translated(failure: Failure, routine: str, detail: str = "") -> Error:
    """Return pycuda's exception: its class by the code, its words by the driver, and no code in it."""
    code = failure.code
    kind: type[Error] = LogicError
    if code in _LAUNCH:
        kind = LaunchError
    elif code == "CUDA_ERROR_OUT_OF_MEMORY":
        kind = MemoryError
    elif code in _RUNTIME:
        kind = RuntimeError
    elif code == "CUDA_ERROR_UNKNOWN":
        kind = Error
    return kind(f"{routine} failed: {TEXTS.get(code, 'unrecognized error code')}" + (f" - {detail}" if detail else ""))


def calls(routine: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function one that calls this routine of the driver, and raises what pycuda raises."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                return function(*args, **kwargs)
            except Failure as failure:
                raise translated(failure, routine) from failure

        return called

    return decorate


class Stacks:
    """pycuda's own stack of contexts in each thread. A thread that ends before it is empty aborts the process."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._local = threading.local()
        self._all: list[tuple[threading.Thread, list[Context]]] = []  # guarded by the machine's lock

    @property
    def stack(self) -> list[Context]:
        """The calling thread's."""
        if not hasattr(self._local, "stack"):
            self._local.stack = []
            with self.machine.lock:
                self._all.append((threading.current_thread(), self._local.stack))
        return self._local.stack

    def current(self) -> Context | None:
        while self.stack and not self.stack[-1]._valid:
            self.stack.pop()
        return self.stack[-1] if self.stack else None

    def push(self, context: Context) -> None:
        self._leave()
        with self.machine.lock:
            self.machine.contexts.push(context.handle)
        self.stack.append(context)

    def pop(self) -> None:
        self._leave()
        if not self.stack:
            self.machine.violate("pycuda: no context to pop in this thread", "CUDA_ERROR_INVALID_CONTEXT")
        self.stack.pop()
        if (below := self.current()) is not None:
            with self.machine.lock:
                self.machine.contexts.push(below.handle)

    def _leave(self) -> None:
        if self.stack:
            with self.machine.lock:
                self.machine.contexts.pop()

    def check(self) -> None:
        """Find the threads that left a context on their stack."""
        for thread, stack in self._all:
            if any(context._valid for context in stack):
                self.machine.violations.append(f"pycuda: thread {thread.name} leaves a context on its stack: abort()")


class Bound:
    """What the classes of one machine's module have in common; `build` sets it."""

    _stacks: Stacks

    @classmethod
    def _machine(cls) -> Machine:
        return cls._stacks.machine


class Context(Bound):
    """A retained primary context. `_valid` and `_thread` are pycuda's own, hidden there."""

    def __init__(self) -> None:
        raise TypeError("This class cannot be instantiated from Python")

    @classmethod
    def _retained(cls) -> Context:
        self = cls.__new__(cls)
        self.handle = cls._machine().retain().handle
        self._valid = True
        self._thread = threading.current_thread()
        return self

    @calls("cuCtxPushCurrent")
    def push(self) -> None:
        self._stacks.push(self)

    @classmethod
    @calls("context::pop")
    def pop(cls) -> None:
        cls._stacks.pop()

    @calls("context::detach")
    def detach(self) -> None:
        if not self._valid:
            self._machine().violate("pycuda: a context is detached twice", "CUDA_ERROR_INVALID_CONTEXT")
        if self._stacks.current() is self or self._thread is threading.current_thread():
            self._machine().release()
        else:
            self._machine().remember("pycuda: a context is detached in a thread that did not make it: it leaks")
        self._valid = False

    @classmethod
    @calls("cuCtxSynchronize")
    def synchronize(cls) -> None:
        cls._machine().synchronise_context()

    @classmethod
    def get_current(cls) -> Context | None:
        return cls._stacks.current()


class Dependent(Bound):
    """What belongs to the context that was current when it was made, and is freed in it."""

    _context: Context | None = None

    def _join(self) -> None:
        self._context = self._stacks.current()
        if self._context is None:
            self._machine().remember("pycuda: no context is current in this thread")
            missing = Failure("CUDA_ERROR_INVALID_CONTEXT")
            raise translated(missing, "explicit_context_dependent", "no currently active context?")

    def _clean_up(self, free: Callable[[], None]) -> None:
        """Free as pycuda does: in the context if that can be made current, else not at all, and silently."""
        context, self._context = self._context, None
        if context is None or not context._valid:
            return
        here = self._stacks.current() is context
        if not here and context._thread is not threading.current_thread():
            self._machine().remember(f"pycuda: a {type(self).__name__} is dropped in a thread without its context")
            return
        if not here:
            self._stacks.push(context)
        try:
            free()
        except (Failure, Violation):
            return  # a destructor says nothing; the machine remembers
        finally:
            if not here:
                self._stacks.pop()

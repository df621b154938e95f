"""Primary contexts: who retains one, which thread has it current, and whether it is still alive."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulated.errors import Failure

__all__ = ["Context", "Contexts"]


@dataclass(eq=False)
class Context:
    """One life of the device's primary context. After a reset there is another one with another handle."""

    handle: int
    retained: int = 0
    dead: str = ""  # the error that every call returns since a kernel failed
    destroyed: bool = False


class Contexts:
    """The primary context and each thread's stack of current contexts. Guarded by the machine's lock."""

    def __init__(self, new_handle: Callable[[], int], violate: Callable[..., None]) -> None:
        self.primary: Context | None = None
        self._new_handle = new_handle
        self._violate = violate
        self._known: dict[int, Context] = {}
        self._stacks: dict[threading.Thread, list[Context]] = {}

    def retain(self) -> Context:
        if self.primary is None:
            self.primary = Context(self._new_handle())
            self._known[self.primary.handle] = self.primary
        self.primary.retained += 1
        return self.primary

    def release(self) -> Context | None:
        """Give one retain back; return the context if that was the last, and it has to be destroyed."""
        if self.primary is None:
            raise Failure("CUDA_ERROR_INVALID_CONTEXT", "the primary context is not active")
        self.primary.retained -= 1
        return self.primary if self.primary.retained == 0 else None

    def destroy(self, context: Context) -> None:
        context.destroyed = True
        self.primary = None

    def get(self, handle: int) -> Context:
        if handle not in self._known:
            self._violate(f"{handle:#x} is no context", "CUDA_ERROR_INVALID_CONTEXT")
        return self._known[handle]

    @property
    def stack(self) -> list[Context]:
        """The calling thread's stack; its last is current."""
        return self._stacks.setdefault(threading.current_thread(), [])

    def set(self, handle: int) -> None:
        """Replace what is current in the calling thread; 0 leaves it without a context."""
        context = self.get(handle) if handle else None
        del self.stack[-1:]
        if context:
            self.stack.append(self.alive(context))

    def push(self, handle: int) -> None:
        self.stack.append(self.alive(self.get(handle)))

    def pop(self) -> Context:
        if not self.stack:
            self._violate("no context to pop in this thread", "CUDA_ERROR_INVALID_CONTEXT")
        return self.stack.pop()

    def current(self) -> Context:
        """Return what is current in the calling thread, or fail as every call does without one."""
        if not self.stack:
            thread = threading.current_thread().name
            self._violate(f"thread {thread} has no context current", "CUDA_ERROR_INVALID_CONTEXT")
        context = self.alive(self.stack[-1])
        if context.dead:
            raise Failure(context.dead)
        return context

    def alive(self, context: Context) -> Context:
        if context.destroyed:
            self._violate("the context was reset under its user", "CUDA_ERROR_CONTEXT_IS_DESTROYED")
        return context

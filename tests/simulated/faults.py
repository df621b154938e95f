"""What can go wrong on a GPU, to be planned by a test."""

from __future__ import annotations

import threading
from collections.abc import Callable

from tests.simulated.errors import Failure
from tests.simulated.streams import Op, Scheduler, Stream

__all__ = ["Faults", "Hang"]


class Hang:
    """A stream that hangs. reached: set once it does."""

    def __init__(self, scheduler: Scheduler, lock: threading.RLock) -> None:
        self.reached = threading.Event()
        self._scheduler = scheduler
        self._lock = lock
        self._stream: Stream | None = None
        self._over = False

    def hold(self, stream: Stream) -> None:
        """Let it hang now, with the machine's lock held."""
        if not self._over:
            self._stream, stream.hung = stream, True
            self.reached.set()

    def release(self) -> None:
        """Let it go on."""
        with self._lock:
            self._over = True
            if self._stream is not None:
                self._stream.hung = False
            self._scheduler.changed.notify_all()


class Faults:
    """Faults by the number of kernels that began on the machine, counted from 1. Guarded by the machine's lock."""

    def __init__(self, scheduler: Scheduler, lock: threading.RLock) -> None:
        self.kernels = 0
        self._scheduler = scheduler
        self._lock = lock
        self._plan: dict[int, Callable[[Stream], None]] = {}
        scheduler.before = self._before

    def fail(self, after: int = 0, code: str = "CUDA_ERROR_ILLEGAL_ADDRESS") -> None:
        """Let the next kernel fail, or the one `after` that many more: its context is dead until it is reset."""

        def raise_failure(stream: Stream) -> None:
            raise Failure(code)

        with self._lock:
            self._plan[self.kernels + after + 1] = raise_failure

    def hang(self, after: int = 0) -> Hang:
        """Let the stream of the next kernel hang, or of the one `after` that many more."""
        hang = Hang(self._scheduler, self._lock)
        with self._lock:
            self._plan[self.kernels + after + 1] = hang.hold
        return hang

    def _before(self, op: Op) -> None:
        if op.kind == "compute":
            self.kernels += 1
            if (fault := self._plan.pop(self.kernels, None)) is not None:
                fault(op.stream)
            if op.stream.hung:
                self.kernels -= 1  # it begins once more when it goes on

"""The context shared by all lanes of this process. A broken one is reset once every lane has left it.

An illegal access in one lane breaks the context for all. The lane that sees the error calls `fail`, which wakes the
others, so that idle lanes notice, too. Each closes its resources and leaves; the first to come back resets the context.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import ClassVar

from embedge.cuda.driver import CudaError, Driver

__all__ = ["SharedContext"]

log = logging.getLogger("embedge.cuda")

_PATIENCE = 5.0  # seconds; the others only close their resources


class SharedContext:
    """The users of one driver's context. Get it with `SharedContext.of`.

    Attributes:
        broken: The error that broke the context; None while it is intact.
    """

    _all: ClassVar[dict[Driver, SharedContext]] = {}

    def __init__(self, driver: Driver, *, patience: float = _PATIENCE) -> None:
        self.broken: CudaError | None = None
        self._driver = driver
        self._patience = patience
        self._users: list[Callable[[], None]] = []
        # Guards the users and `broken`. A lane's thread holds it for a moment, and while it resets the context.
        self._changed = threading.Condition()

    @classmethod
    def of(cls, driver: Driver) -> SharedContext:
        """Return the context of a driver, the same one every time."""
        return cls._all.setdefault(driver, cls(driver))  # one step, so that it needs no lock

    def join(self, wake: Callable[[], None]) -> None:
        """Join as a user. If the context is broken, wait until everyone has left it, then reset it.

        Call this in a lane's thread that has entered. It enters the new context after a reset.

        Args:
            wake: Called once, from another thread, if the context breaks.

        Raises:
            CudaError: A lane keeps the broken context for too long, or it stays broken. The thread has left it then.
        """
        self._driver.leave()  # what this thread entered may be what broke
        with self._changed:
            if self.broken is not None:
                self._mend(self.broken)
            self._driver.enter()
            self._users.append(wake)

    def leave(self, wake: Callable[[], None]) -> None:
        """Leave, with everything closed. Leaving without having joined does nothing."""
        with self._changed:
            if wake in self._users:
                self._users.remove(wake)
                self._changed.notify_all()

    def fail(self, error: CudaError) -> None:
        """Mark the context as broken, and wake all users. An error that isn't fatal changes nothing."""
        with self._changed:
            if not error.fatal or self.broken is not None:
                return
            self.broken = error
            users = list(self._users)
        log.error(
            "%s: the GPU's context is broken, and all lanes of this process with it: %s", self._driver.name, error
        )
        for wake in users:
            wake()

    def check(self) -> None:
        """Raise CudaError if the context is broken."""
        if (broken := self.broken) is not None:
            raise CudaError(broken.code, broken.message) from broken

    def _mend(self, broken: CudaError) -> None:
        if not self._changed.wait_for(lambda: not self._users or self.broken is None, self._patience):
            text = f"{len(self._users)} lanes still use the GPU {self._patience:g} s after its context broke"
            raise CudaError(broken.code, f"{text} ({broken}); restart the process")
        if self.broken is not None:  # another lane may have been first
            self._driver.reset()
            self.broken = None
            log.warning("%s: the GPU's context was made anew", self._driver.name)

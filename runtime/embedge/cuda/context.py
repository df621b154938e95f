"""Who in this process uses the GPU now. A broken context is thrown away once all of them have let go of it.

An illegal access of one lane breaks the context under all lanes. Whoever sees it says `fail`, which wakes the others,
so that idle lanes notice as well. Each closes what it has and leaves; the first that comes back makes the context anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import ClassVar

from embedge.cuda.driver import CudaError, Driver

__all__ = ["SharedContext"]

log = logging.getLogger("embedge.cuda")

_PATIENCE = 5.0  # seconds: the others only close what they have


class SharedContext:
    """One a driver: get it with `SharedContext.of`."""

    _all: ClassVar[dict[Driver, SharedContext]] = {}

    def __init__(self, driver: Driver, *, patience: float = _PATIENCE) -> None:
        self.broken: CudaError | None = None
        self._driver = driver
        self._patience = patience
        self._users: list[Callable[[], None]] = []
        # Guards the users and what is broken. Held by a lane's thread for a look, and while it resets the context.
        self._changed = threading.Condition()

    @classmethod
    def of(cls, driver: Driver) -> SharedContext:
        """Return the context of a driver, the same for all who ask."""
        return cls._all.setdefault(driver, cls(driver))  # one step, so that it needs no lock

    def join(self, wake: Callable[[], None]) -> None:
        """Become a user. Called in a lane's thread, which has entered; it enters again, if the context is another one.

        wake: is told once, from another thread, that the context broke. Where it is broken already, wait until nobody
        uses it, then make it anew. Raises CudaError where somebody keeps it for too long, or where it stays broken; the
        thread has left then.
        """
        self._driver.leave()  # what this thread entered may be what broke
        with self._changed:
            if self.broken is not None:
                self._mend(self.broken)
            self._driver.enter()
            self._users.append(wake)

    def leave(self, wake: Callable[[], None]) -> None:
        """Be no user any more: everything of this one is closed. Leaving without having joined does nothing."""
        with self._changed:
            if wake in self._users:
                self._users.remove(wake)
                self._changed.notify_all()

    def fail(self, error: CudaError) -> None:
        """Remember what broke the context, and wake all its users. An error that is not fatal changes nothing."""
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

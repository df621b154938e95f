"""A word to whoever opens a model that nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embedge.errors import Unavailable

__all__ = ["Stop"]


class Stop:
    """Said once, by any thread, and heard by all that were given it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both below; not held while anybody is called
        self._said = False
        self._calls: list[Callable[[], None]] = []

    def say(self) -> None:
        """Tell whoever listens, and whoever asks later. Returns at once if what listens does."""
        with self._lock:
            self._said = True
            calls = tuple(self._calls)
        for call in calls:
            call()

    def check(self) -> None:
        """Raise Unavailable if it was said."""
        if self._said:
            raise Unavailable("it was told to stop while models were being opened")

    @contextmanager
    def heard(self, call: Callable[[], None]) -> Iterator[None]:
        """Have `call` called once it is said, at once if it was: from any thread, and not after this block."""
        with self._lock:
            self._calls.append(call)
            said = self._said
        try:
            if said:
                call()
            yield
        finally:
            with self._lock:
                self._calls.remove(call)

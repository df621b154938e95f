"""Objects that only one thread may use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Single"]


class Single:
    """Guards an object that is not thread-safe: the first thread that uses it owns it, until it hands it over."""

    def __init__(self, name: str, violate: Callable[..., None]) -> None:
        self.name = name
        self._violate = violate
        self._owner: threading.Thread | None = None  # set by the first user
        self._lock = threading.Lock()  # guards the owner; held for a look

    @contextmanager
    def use(self) -> Iterator[None]:
        """Use it in the calling thread."""
        here = threading.current_thread()
        with self._lock:
            owner = self._owner = self._owner or here
        if owner is not here:
            self._violate(f"{self.name} belongs to thread {owner.name} and is used in {here.name}")
        yield

    def hand_over(self) -> None:
        """Let the next user be the owner."""
        self._owner = None

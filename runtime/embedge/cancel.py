"""A token that cancels work that takes minutes: opening models, building plans."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embedge.errors import Unavailable

__all__ = ["CancelToken"]


class CancelToken:
    """Cancelled at most once, from any thread. Every operation that holds the token reacts to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both fields below; released before any callback runs
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Cancel, and run the registered callbacks in this thread."""
        with self._lock:
            self._cancelled = True
            callbacks = tuple(self._callbacks)
        for callback in callbacks:
            callback()

    def check(self) -> None:
        """Stop here if the token is cancelled.

        Raises:
            Unavailable: The token is cancelled.
        """
        if self._cancelled:
            raise Unavailable("opening was cancelled")

    @contextmanager
    def on_cancel(self, callback: Callable[[], None]) -> Iterator[None]:
        """Run `callback` on cancellation while the block is active; at once if already cancelled.

        Args:
            callback: Called from the cancelling thread, never after the block has ended.
        """
        with self._lock:
            self._callbacks.append(callback)
            cancelled = self._cancelled
        try:
            if cancelled:
                callback()
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)

"""Listeners that are notified whenever a model starts or stops serving."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Listeners"]

log = logging.getLogger("embedge.embedder")

Listener = Callable[[bool], None]


class Listeners:
    """The listeners of one model. Safe to use from any number of threads."""

    def __init__(self, name: str, serving: Callable[[], bool]) -> None:
        """Start without listeners.

        Args:
            name: The model's name, for the log.
            serving: Returns whether the model serves now.
        """
        self._name = name
        self._serving = serving
        # Held by the notifying thread, a lane's or a caller's, so that the last notification is the true one.
        # Reentrant, because a listener may add another.
        self.lock = threading.RLock()
        self._listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        """Add a listener, and notify it now."""
        with self.lock:
            self._listeners.append(listener)
            listener(self._serving())

    def notify(self) -> None:
        """Notify every listener. One that raises doesn't affect the others."""
        with self.lock:
            for listener in list(self._listeners):
                try:
                    listener(self._serving())
                except Exception:  # users write listeners
                    log.exception("a listener of %s failed", self._name)

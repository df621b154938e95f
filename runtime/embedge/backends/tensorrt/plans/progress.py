"""Build progress as log lines, for servers, where nobody watches a progress bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from embedge.backends.tensorrt.plans.messages import Built, Failed, Log, Message, Progress, Refused

__all__ = ["LogProgress"]

log = logging.getLogger("embedge.backends.tensorrt.plans")


class LogProgress:
    """Logs a builder's messages: progress every few seconds, everything else at once."""

    def __init__(self, every: float = 5.0, clock: Callable[[], float] = time.monotonic) -> None:
        """Log progress at most once in `every` seconds."""
        self._every = every
        self._clock = clock
        self._last = -every

    def __call__(self, message: Message) -> None:
        """Log a message; skip progress that comes too soon."""
        if isinstance(message, Progress):
            self._progress(message)
        elif isinstance(message, Log):
            log.log(logging.ERROR if message.level == "error" else logging.WARNING, "TensorRT: %s", message.text)
        elif isinstance(message, Built):
            size = message.nbytes / 2**20
            log.info("graph %r: plan of %.1f MiB built in %.0f s", message.graph, size, message.seconds)
        elif isinstance(message, Refused):
            log.warning("graph %r: the gate refused its plan: %s", message.graph, message.reason)
        elif isinstance(message, Failed):
            log.error("graph %r: no plan: %s", message.graph, message.text)

    def _progress(self, message: Progress) -> None:
        now = self._clock()
        if now - self._last >= self._every:
            self._last = now
            total = f" of {message.total}" if message.total else ""
            log.info("graph %r: building its plan: %s, step %d%s", message.graph, message.phase, message.done, total)

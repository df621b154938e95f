"""Finds lanes that hang, in a batch or while they open or close, and has them replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Generic

from embedge.batches.batch import EntryT
from embedge.lanes.lane import Lane

__all__ = ["Watchdog"]

_LONGEST_NAP = 5.0


class Watchdog(Generic[EntryT]):
    """One thread that checks all lanes of a pool periodically. Owned by the pool."""

    def __init__(
        self,
        lanes: Callable[[], Iterable[Lane[EntryT]]],
        replace: Callable[[Lane[EntryT], float], None],
        *,
        hang_seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Create a watchdog.

        Args:
            lanes: Returns the lanes to check. Their times are on the same clock.
            replace: Receives a lane that hangs, and its seconds without progress.
            hang_seconds: Seconds without progress that a batch may take beyond ten times its prediction.
            clock: Seconds, monotonic.
        """
        self._lanes = lanes
        self._replace = replace
        self._seconds = hang_seconds
        self._clock = clock
        self._closed = threading.Event()  # set by the pool
        self._thread = threading.Thread(target=self._main, name="embedge-watchdog", daemon=True)  # owned by this object

    def check(self, now: float) -> None:
        """Replace every lane that hangs at this time."""
        for lane in list(self._lanes()):
            seconds = lane.hangs(now, self._seconds)
            if seconds is not None:
                self._replace(lane, seconds)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closed.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _main(self) -> None:
        while not self._closed.wait(min(_LONGEST_NAP, self._seconds / 4)):
            self.check(self._clock())

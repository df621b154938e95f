"""The watch: sees lanes that hang, inside a batch or as they open, and has them replaced."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from embedge.lanes.lane import Lane

__all__ = ["Watchdog"]

_LONGEST_NAP = 5.0


class Watchdog:
    """One thread, owned by the crew, that looks at the lanes now and then."""

    def __init__(
        self,
        lanes: Callable[[], Iterable[Lane]],
        replace: Callable[[Lane, float], None],
        *,
        hang_seconds: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """lanes: those to look at; their times are of the same clock. replace: gets one that hangs, and how long.

        hang_seconds: how much longer than some times what was predicted a lane may be in a batch.
        """
        self._lanes = lanes
        self._replace = replace
        self._seconds = hang_seconds
        self._clock = clock
        self._closed = threading.Event()  # set by the crew
        self._thread = threading.Thread(target=self._main, name="embedge-watch", daemon=True)

    def check(self, now: float) -> None:
        """Replace every lane that hangs."""
        for lane in list(self._lanes()):
            inside = lane.hangs(now, self._seconds)
            if inside is not None:
                self._replace(lane, inside)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _main(self) -> None:
        while not self._closed.wait(min(_LONGEST_NAP, self._seconds / 4)):
            self.check(self._clock())

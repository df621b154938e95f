"""Answers from other threads to the event loop: many at a time, for one wake-up of the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import ClassVar
from weakref import WeakKeyDictionary

__all__ = ["Letters"]

Letter = tuple["asyncio.Future[bytes]", "bytes | None", "Exception | None"]


class Letters:
    """A loop's letter box. Any thread posts; the loop takes out all that is there whenever it is woken.

    A wake-up costs a system call and a round of the loop: with one for each answer of a batch, a server of many small
    requests spends more time on those than on anything else of ours.
    """

    _boxes: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Letters]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._letters: deque[Letter] = deque()
        self._called = False  # whether the loop knows; set by posters, cleared by the loop before it looks

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Letters:
        """Return the loop's box. Called on the loop only."""
        box = cls._boxes.get(loop)
        if box is None:
            box = cls._boxes[loop] = cls()
        return box

    def post(self, future: asyncio.Future[bytes], data: bytes | None, error: Exception | None) -> None:
        """Resolve `future` on the loop, soon, with `data` or `error`."""
        self._letters.append((future, data, error))
        if not self._called:  # two posters may both see this; the loop then wakes once for nothing
            self._called = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and with it whoever waited
                future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._called = False
        while self._letters:
            future, data, error = self._letters.popleft()
            if future.done():  # its waiter has left
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(data or b"")

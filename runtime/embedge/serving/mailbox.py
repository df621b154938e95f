"""Replies from other threads to the event loop: many of them for one wake-up of the loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import ClassVar
from weakref import WeakKeyDictionary

__all__ = ["LoopMailbox"]

_Answer = tuple["asyncio.Future[bytes]", "bytes | None", "Exception | None"]


class LoopMailbox:
    """An event loop's mailbox. Any thread puts results into it; the loop empties it whenever it wakes up.

    A wake-up costs a system call and a round of the loop. With one wake-up per reply, a server of many small requests
    spends more time on those than on anything else of ours.
    """

    _mailboxes: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, LoopMailbox]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._entries: deque[_Answer] = deque()
        self._woken = False  # set by the threads that put; cleared by the loop before it looks

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> LoopMailbox:
        """Return the loop's mailbox. Call it on the loop only."""
        mailbox = cls._mailboxes.get(loop)
        if mailbox is None:
            mailbox = cls._mailboxes[loop] = cls()
        return mailbox

    def put(self, future: asyncio.Future[bytes], data: bytes | None, error: Exception | None) -> None:
        """Resolve `future` on the loop, soon, with `data` or `error`."""
        self._entries.append((future, data, error))
        if not self._woken:  # two threads may both get here; the loop then wakes up once for nothing
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and every waiter with it
                future.get_loop().call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._woken = False
        while self._entries:
            future, data, error = self._entries.popleft()
            if future.done():  # its waiter has left
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(data or b"")

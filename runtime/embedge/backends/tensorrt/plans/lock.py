"""Locks between processes, on files. The kernel frees a lock when who holds it ends, however it ends."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO

from embedge.errors import Unavailable

__all__ = ["Cancel", "held"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

_LOOK = 0.25  # seconds


class Cancel(Protocol):
    """Says whether to stop waiting: a `threading.Event`, or what has its two methods."""

    def is_set(self) -> bool:
        """Return whether to stop."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait for so many seconds, or less if it is to stop; return whether it is."""
        ...


@contextmanager
def held(file: TextIO, cancel: Cancel) -> Iterator[None]:
    """Hold the lock of a file that is open for appending. Says who has it while it waits.

    Raises Unavailable when cancelled. The lock is of the open file: no child may inherit it.
    """
    if not _taken(file):
        log.warning("another process is building plans (%s): waiting until it is done", _holder(file))
        while not _taken(file):
            # A wait inside flock could not be cancelled by another thread.
            if cancel.wait(_LOOK):
                raise Unavailable("building plans was cancelled while another process was building")
    with suppress(OSError):  # a full disk: who waits is then not told for whom
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: TextIO) -> str:
    file.seek(0)
    pid = file.read(32).strip()
    return f"process {pid}" if pid.isdecimal() else "it does not say which"

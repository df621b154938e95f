"""File locks between processes. The kernel releases a lock when its holder ends, however that ends."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TextIO

from embedge.errors import Unavailable

__all__ = ["CancelSignal", "hold"]

log = logging.getLogger("embedge.backends.tensorrt.plans")

_POLL_SECONDS = 0.25


class CancelSignal(Protocol):
    """Whether to stop waiting: a `threading.Event`, or any object with these two methods."""

    def is_set(self) -> bool:
        """Return whether to stop."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for the signal to stop; return whether it came."""
        ...


@contextmanager
def hold(file: TextIO, cancel: CancelSignal) -> Iterator[None]:
    """Hold a file's lock. Logs the holder's process id if it has to wait.

    Args:
        file: Open for appending. The lock belongs to the open file: no child may inherit it.
        cancel: Stops the wait.

    Raises:
        Unavailable: The wait was cancelled.
    """
    if not _acquire(file):
        log.warning("another process is building plans (%s): waiting until it is done", _holder(file))
        while not _acquire(file):
            # A wait inside flock could not be cancelled by another thread.
            if cancel.wait(_POLL_SECONDS):
                raise Unavailable("building plans was cancelled while another process was building")
    with suppress(OSError):  # a full disk: the log of a waiting process then lacks the holder
        os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _acquire(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: TextIO) -> str:
    file.seek(0)
    pid = file.read(32).strip()
    return f"process {pid}" if pid.isdecimal() else "unknown process"

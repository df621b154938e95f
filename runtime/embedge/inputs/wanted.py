"""Whether anybody still waits for what a thread prepares: slow modalities ask between items and between frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from embedge.errors import DeadlineExceeded

__all__ = ["go_on", "while_wanted"]

# Of the thread that prepares, so that no modality's signature knows of it.
_wanted: ContextVar[Callable[[], bool]] = ContextVar("wanted", default=lambda: True)


@contextmanager
def while_wanted(wanted: Callable[[], bool]) -> Iterator[None]:
    """Let this thread prepare for as long as `wanted` says so."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def go_on() -> None:
    """Raise DeadlineExceeded if nobody waits any more for what this thread prepares."""
    if not _wanted.get()():
        raise DeadlineExceeded("the deadline passed, or the caller left, while the items were prepared")

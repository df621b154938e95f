"""What is given back to CUDA exactly once, and to the context that it came from only."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from embedge.cuda.driver import CudaError

__all__ = ["HostArray", "Life", "Owned", "release"]

T = TypeVar("T")

log = logging.getLogger("embedge.cuda")


class Life:
    """One life of the primary context. over: it was thrown away, with all that was made in it."""

    def __init__(self) -> None:
        self.over = False


def release(life: Life, what: str, free: Callable[[], None]) -> None:
    """Give something back, unless it went with its context: another may have the same handle now.

    In a broken context nothing can be given back, which is no news. Other errors are raised.
    """
    if life.over:
        return
    try:
        free()
    except CudaError as error:
        if not error.fatal:
            raise
        log.debug("%s was not given back: %s", what, error)


class Owned:
    """Something with a `close` that frees it once."""

    def __init__(self, life: Life, free: Callable[[], None]) -> None:
        self._life = life
        self._free: Callable[[], None] | None = free

    def opened(self, value: T) -> T:
        """Return the value. Raises ValueError once it is closed: a handle may be another's by then."""
        if self._free is None:
            raise ValueError(f"this {type(self).__name__.strip('_').lower()} is closed")
        return value

    def close(self) -> None:
        """Free it; a second time does nothing."""
        free, self._free = self._free, None
        if free is not None:
            release(self._life, type(self).__name__.strip("_").lower(), free)


class HostArray:
    """Page-locked memory as an array. Views of it hold it alive: it is freed by `close`, or after the last of them."""

    def __init__(self, whole: NDArray[np.uint8], pointer: int, free: Callable[[], None]) -> None:
        """`whole`: all of the memory. It owns nothing, and every view of it refers to it. `free` frees the memory."""
        self.pointer = pointer
        self.nbytes = whole.nbytes
        self._address = whole.ctypes.data
        self._array: NDArray[np.uint8] | None = whole
        self._freed = weakref.finalize(whole, free)
        self._freed.atexit = False  # the driver may be gone by then, and takes the memory with it

    @property
    def array(self) -> NDArray[np.uint8]:
        """The memory, as bytes."""
        if self._array is None:
            raise ValueError("this pinned memory is closed")
        return self._array

    def host(self, offset: int, nbytes: int) -> int:
        """Return the host's address of these bytes."""
        if self._array is None or offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            state = "closed" if self._array is None else f"of {self.nbytes} bytes"
            raise ValueError(f"{nbytes} bytes at {offset} are asked for in pinned memory that is {state}")
        return self._address + offset

    def close(self) -> None:
        """Let go of the memory."""
        self._array = None
        if self._freed.alive:
            log.warning("%d bytes of pinned memory are closed while a view of them is held", self.nbytes)

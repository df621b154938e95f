"""Resources that are returned to CUDA exactly once, and only to the context they came from."""

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
    """One lifetime of the primary context.

    Attributes:
        over: Whether it was destroyed, with everything created in it.
    """

    def __init__(self) -> None:
        self.over = False


def release(life: Life, what: str, free: Callable[[], None]) -> None:
    """Free a resource, unless it was destroyed with its context: its handle may be another's by now.

    Errors of a broken context are only logged: nothing can be freed there.

    Args:
        life: The context's lifetime in which the resource was created.
        what: Its name, for the log.
        free: Frees it.

    Raises:
        CudaError: Freeing failed for another reason.
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
    """A resource with a `close` that frees it once."""

    def __init__(self, life: Life, free: Callable[[], None]) -> None:
        self._life = life
        self._free: Callable[[], None] | None = free

    def opened(self, value: T) -> T:
        """Return the value.

        Raises:
            ValueError: The resource is closed, so a handle may be another's by now.
        """
        if self._free is None:
            raise ValueError(f"this {type(self).__name__.strip('_').lower()} is closed")
        return value

    def close(self) -> None:
        """Free it. Closing twice is fine."""
        free, self._free = self._free, None
        if free is not None:
            release(self._life, type(self).__name__.strip("_").lower(), free)


class HostArray:
    """Page-locked memory as an array. Freed by `close`, or after its last view is gone.

    Attributes:
        pointer: Its device address.
        nbytes: Its size in bytes.
    """

    def __init__(self, whole: NDArray[np.uint8], pointer: int, free: Callable[[], None]) -> None:
        """Take over page-locked memory.

        Args:
            whole: All of it, `(nbytes,)` uint8. Every view has to refer to this array.
            pointer: Its device address.
            free: Frees it.
        """
        self.pointer = pointer
        self.nbytes = whole.nbytes
        self._address = whole.ctypes.data
        self._array: NDArray[np.uint8] | None = whole
        self._freed = weakref.finalize(whole, free)
        self._freed.atexit = False  # the driver may be gone by then, and the memory with it

    @property
    def array(self) -> NDArray[np.uint8]:
        """The memory, `(nbytes,)` uint8. Raises ValueError once it is closed."""
        if self._array is None:
            raise ValueError("this pinned memory is closed")
        return self._array

    def host(self, offset: int, nbytes: int) -> int:
        """Return the host address of `nbytes` bytes at `offset`.

        Raises:
            ValueError: They are out of bounds, or the memory is closed.
        """
        if self._array is None or offset < 0 or nbytes < 0 or offset + nbytes > self.nbytes:
            state = "closed" if self._array is None else f"of {self.nbytes} bytes"
            raise ValueError(f"{nbytes} bytes at {offset} are asked for in pinned memory that is {state}")
        return self._address + offset

    def close(self) -> None:
        """Free the memory once its last view is gone."""
        self._array = None
        if self._freed.alive:
            log.warning("%d bytes of pinned memory are closed while a view of them is held", self.nbytes)

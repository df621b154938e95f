"""What a lane is given: a source of batches and a source of executors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from embedge.batches.batch import Batch, EntryT
from embedge.lanes.executor import Executor

__all__ = ["ExecutorSource", "WorkSource"]


class WorkSource(Protocol[EntryT]):
    """A queue of batches, shared by all lanes of a model."""

    def take(self, interrupted: Callable[[], bool]) -> Batch[EntryT] | None:
        """Wait for a batch.

        Args:
            interrupted: Called before each look at the queue and after each `interrupt`. True ends the wait.

        Returns:
            The next batch; None after an interruption or when the queue is closed.
        """
        ...

    def interrupt(self) -> None:
        """Make every lane in `take` call `interrupted` again. Callable from any thread."""
        ...


class ExecutorSource(Protocol):
    """Opens and closes executors in the lane's thread."""

    def open(self, wake: Callable[[], None], on_progress: Callable[[], None]) -> Executor:
        """Open an executor for the calling thread.

        Args:
            wake: Makes the lane check its slot. Callable from any thread.
            on_progress: Called after every step, so that a slow start differs from a hang.
        """
        ...

    def close(self, executor: Executor) -> None:
        """Close an executor in the thread that opened it."""
        ...

"""Opens and closes the executors of lanes, and owns the program that several of them may share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

from embedge.backends import Backend, BackendModel, DeviceSlot
from embedge.errors import BundleError
from embedge.lanes.executor import Executor
from embedge.lanes.program import Program

__all__ = ["ExecutorFactory"]


class ExecutorFactory:
    """Executors of one kind for the lanes of one model. See `ExecutorSource`."""

    def __init__(self, model: BackendModel, backend: Backend, *, threads: int, share: bool) -> None:
        """Create an executor factory.

        Args:
            model: What the backend opens.
            backend: Gives the slots.
            threads: Compute threads of each executor.
            share: Whether all executors run the same program, opened once.
        """
        self._model = model
        self._backend = backend
        self._threads = threads
        self._share = share
        self._feeds = partial(model.probes.feeds, length_multiple=backend.length_multiple)
        self._stamps: dict[str, tuple[int, ...]] = {}  # identity of each graph file when it was first opened
        # Held by a lane's thread while it opens or closes sessions, but not while it opens or closes its slot: a slot
        # on a GPU may wait until all others of a broken context are closed.
        self._opening = threading.Lock()
        self._shared: Program | None = None
        self._users: dict[Program, int] = {}

    def open(self, wake: Callable[[], None], on_progress: Callable[[], None] = lambda: None) -> Executor:
        """Open an executor for the calling thread.

        Args:
            wake: Makes the lane check its slot. Callable from any thread.
            on_progress: Called after every step.

        Raises:
            BundleError: A graph changed on disk since it was first opened.
        """
        slot = self._backend.slot(threads=self._threads, wake=wake)
        try:
            return Executor(slot, self._join(slot, on_progress), self._feeds)
        except BaseException:
            slot.close()
            raise

    def close(self, executor: Executor) -> None:
        """Close an executor in the thread that opened it. Its program stays open while others run it."""
        try:
            self._leave(executor.program)
        finally:
            executor.slot.close()

    def _join(self, slot: DeviceSlot, on_progress: Callable[[], None]) -> Program:
        """Return a program for a slot: a new one, or the shared one."""
        with self._opening:
            on_progress()  # it waited for other lanes, and did not hang
            if self._shared is None or not self._share:
                self._shared = self._open(slot, on_progress)
            self._users[self._shared] = self._users.get(self._shared, 0) + 1
            return self._shared

    def _leave(self, program: Program) -> None:
        """Close a program after its last user. New executors never get it again."""
        with self._opening:
            if program is self._shared:
                self._shared = None
            self._users[program] -= 1
            if not self._users[program]:
                del self._users[program]
                program.close()

    def _open(self, slot: DeviceSlot, on_progress: Callable[[], None]) -> Program:
        opened = {}
        try:
            for name in self._model.graphs:
                opened[name] = slot.open(name, self._graph(name))
                on_progress()
        except BaseException:
            for session in opened.values():
                session.close()
            raise
        return Program(self._model.bundle.manifest, opened)

    def _graph(self, name: str) -> Path:
        """Return a graph's file, if it is still the file that was first opened."""
        path = self._model.bundle.graph(name)
        facts = path.stat()
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if self._stamps.setdefault(name, stamp) != stamp:
            raise BundleError(f"{path}: changed on disk since the model was opened; open the model again")
        return path

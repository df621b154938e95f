"""The rack: opens and closes the posts that lanes work at, and holds the program that several of them share."""

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
    """Posts of one kind for the lanes of one model."""

    def __init__(self, model: BackendModel, backend: Backend, *, threads: int, share: bool) -> None:
        """threads: compute threads of each. share: whether all of them run the same program, which is held once."""
        self._model = model
        self._backend = backend
        self._threads = threads
        self._share = share
        self._feeds = partial(model.probes.feeds, length_multiple=backend.length_multiple)
        self._stamps: dict[str, tuple[int, ...]] = {}  # what the graphs' files were when they were first opened
        # Held by a lane's thread while it opens or closes sessions, but not while it opens or closes its slot: a slot
        # on a GPU may wait until all others of a broken context are closed.
        self._opening = threading.Lock()
        self._shared: Program | None = None
        self._users: dict[Program, int] = {}

    def enter(self, wake: Callable[[], None], moved: Callable[[], None] = lambda: None) -> Executor:
        """Open a post for the calling thread. wake: called where it must look at its slot. moved: after every step."""
        slot = self._backend.slot(threads=self._threads, wake=wake)
        try:
            return Executor(slot, self._join(slot, moved), self._feeds)
        except BaseException:
            slot.close()
            raise

    def exit(self, post: Executor) -> None:
        """Close a post in the thread that opened it; its program stays open while others run it."""
        try:
            self._leave(post.program)
        finally:
            post.slot.close()

    def _join(self, slot: DeviceSlot, moved: Callable[[], None]) -> Program:
        """Return a program for a slot: a fresh one, or the one that all share."""
        with self._opening:
            moved()  # it has waited for others, not hung
            if self._shared is None or not self._share:
                self._shared = self._open(slot, moved)
            self._users[self._shared] = self._users.get(self._shared, 0) + 1
            return self._shared

    def _leave(self, program: Program) -> None:
        """Close a program, unless others still run it; no post gets it any more."""
        with self._opening:
            if program is self._shared:
                self._shared = None
            self._users[program] -= 1
            if not self._users[program]:
                del self._users[program]
                program.close()

    def _open(self, slot: DeviceSlot, moved: Callable[[], None]) -> Program:
        opened = {}
        try:
            for name in self._model.graphs:
                opened[name] = slot.open(name, self._graph(name))
                moved()
        except BaseException:
            for session in opened.values():
                session.close()
            raise
        return Program(self._model.bundle.manifest, opened)

    def _graph(self, name: str) -> Path:
        """Return a graph's file. Raises BundleError if it is not the one that was there at the start."""
        path = self._model.bundle.graph(name)
        facts = path.stat()
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if self._stamps.setdefault(name, stamp) != stamp:
            raise BundleError(f"{path}: changed on disk since the model was opened; open it again to use what is there")
        return path

"""Embeds the pieces of sets before the items that contain them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from embedge.bundle.manifest import Tower
from embedge.calls.preparer import Preparer
from embedge.calls.sets import Sets, count_pieces, set_part
from embedge.calls.task import Task
from embedge.request import Item, Reply, Request

__all__ = ["Pieces"]


class Pieces:
    """Starts tasks, and for towers that take sets, first a task for the pieces.

    Without a thread: an item is prepared further in the thread that finished its last piece.
    """

    def __init__(self, towers: Mapping[str, Tower], admit: Callable[[Request], Task], preparer: Preparer) -> None:
        """Find the towers that take sets.

        Args:
            towers: The loaded towers by name.
            admit: Checks a request for pieces and admits it to the queue.
            preparer: Prepares the items once their pieces are embedded.
        """
        self._towers = towers
        self._parts = {name: part for name, tower in towers.items() if (part := set_part(tower)) is not None}
        self._admit = admit
        self._preparer = preparer

    def count(self, tower: str, items: Sequence[Item]) -> int:
        """Return how many pieces all items have together; 0 for a tower without sets."""
        return count_pieces(items, self._parts[tower]) if tower in self._parts else 0

    def begin(self, task: Task, prepare: Callable[[Task], None]) -> None:
        """Prepare the items of an admitted task, or embed their pieces first.

        Args:
            task: The task.
            prepare: Prepares a task without sets: `Preparer.now` or `Preparer.later`.
        """
        if not task.request.items:
            return
        if task.tower not in self._parts:
            prepare(task)
            return
        sets = Sets(task.request, self._towers[task.tower])
        pieces = self._admit(sets.request())
        task.future.add_done_callback(lambda _: pieces.future.cancel())  # nobody waits for them any more
        pieces.future.add_done_callback(lambda embedded: self._continue(task, sets, embedded))
        self.begin(pieces, prepare)

    def _continue(self, task: Task, sets: Sets, pieces: Future[Reply]) -> None:
        """Prepare a task after its pieces. Called in the thread that finished or failed the last piece."""
        if task.future.done():
            return
        try:
            task.request = replace(task.request, items=sets.gathered(pieces.result()))
            self._preparer.later(task)
        except Exception as error:  # any error must reach the caller
            self._preparer.fail(task, error)

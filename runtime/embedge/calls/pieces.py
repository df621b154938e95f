"""Tasks whose items hold sets: their pieces are embedded first, as a task of their own, and then the items prepared."""

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
    """Knows which towers take sets. Has no thread: what follows the pieces happens where the last of them came in."""

    def __init__(self, towers: Mapping[str, Tower], admit: Callable[[Request], Task], preparer: Preparer) -> None:
        """`admit`: checks a request for pieces and lets it into the queue. `preparer`: prepares what follows them."""
        self._towers = towers
        self._parts = {name: part for name, tower in towers.items() if (part := set_part(tower)) is not None}
        self._admit = admit
        self._preparer = preparer

    def count(self, tower: str, items: Sequence[Item]) -> int:
        """Return how many pieces the items have, all together."""
        return count_pieces(items, self._parts[tower]) if tower in self._parts else 0

    def begin(self, task: Task, prepare: Callable[[Task], None]) -> None:
        """Have the items of an admitted task prepared; where they hold sets, once the pieces of these are embedded."""
        if not task.request.items:
            return
        if task.tower not in self._parts:
            prepare(task)
            return
        sets = Sets(task.request, self._towers[task.tower])
        pieces = self._admit(sets.request())
        task.future.add_done_callback(lambda _: pieces.future.cancel())  # nobody waits for them any more
        pieces.future.add_done_callback(lambda embedded: self._go_on(task, sets, embedded))
        self.begin(pieces, prepare)

    def _go_on(self, task: Task, sets: Sets, pieces: Future[Reply]) -> None:
        """Prepare a task whose pieces are embedded. Called where the last of them came in, or went wrong."""
        if task.future.done():
            return
        try:
            task.request = replace(task.request, items=sets.gathered(pieces.result()))
            self._preparer.later(task)
        except Exception as error:  # whoever waits must hear of it, whatever it is
            self._preparer.fail(task, error)

"""Hop 8, off the lane thread: hand each row to the request that waits for it, or tell why there is none."""

from __future__ import annotations

import logging
import queue
import threading
from typing import cast

from embedge.batch import Batch
from embedge.errors import BackendError
from embedge.fairqueue import Entry
from embedge.lane import Outcome
from embedge.scheduler import Scheduler
from embedge.task import Task

__all__ = ["Completer"]

log = logging.getLogger("embedge.completer")


class Completer:
    """One thread, owned by the embedder, that turns outcomes into finished rows while lanes go on."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._outcomes: queue.SimpleQueue[tuple[Batch, Outcome] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="embedge-completer", daemon=True)
        self._thread.start()

    def deliver(self, batch: Batch, outcome: Outcome) -> None:
        """Take over a batch that a lane is done with."""
        self._outcomes.put((batch, outcome))

    def close(self) -> None:
        """Finish what was delivered, then end the thread."""
        self._outcomes.put(None)
        if self._thread is not threading.current_thread():  # as where a reply's own callback closes the embedder
            self._thread.join()

    def _main(self) -> None:
        while (delivered := self._outcomes.get()) is not None:
            batch, outcome = delivered
            try:
                self._complete(batch, outcome)
            except Exception as error:  # this thread must outlive anything, or every waiter hangs
                log.exception("completing a batch of %d failed", len(batch.rows))
                self._fail(batch, error)
            finally:
                self._scheduler.done(batch, outcome.seconds)

    def _complete(self, batch: Batch, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(batch, outcome.error)
            return
        rows: dict[Task, list[int]] = {}
        for row, entry in enumerate(_entries(batch)):
            rows.setdefault(_task(entry), []).append(row)
        for task, own in rows.items():
            self._hand_over(task, own, batch, outcome)

    def _hand_over(self, task: Task, own: list[int], batch: Batch, outcome: Outcome) -> None:
        entries = _entries(batch)
        kept = [row for row in own if outcome.good[row] and row not in outcome.faults]
        lost = [row for row in own if not (outcome.good[row] and row not in outcome.faults)]
        if kept:
            all_ = len(kept) == len(batch.rows)
            tensors = {name: outcome.arrays[name] if all_ else outcome.arrays[name][kept] for name in task.tensors}
            task.add_rows([entries[row].index for row in kept], tensors, batch.formed)
        for row in lost:
            log.error("an item could not be computed: %r", outcome.faults.get(row, "output not finite or zero"))
        task.fail_items({entries[row].index: BackendError(_BAD_ROW) for row in lost})

    def _fail(self, batch: Batch, cause: Exception) -> None:
        for task in dict.fromkeys(_task(entry) for entry in _entries(batch)):
            error = BackendError(_FAILED)
            error.__cause__ = cause
            self._scheduler.drop(task, error)  # what it still has in the queue would be computed for nobody
            task.fail(error)


def _entries(batch: Batch) -> list[Entry]:
    return cast("list[Entry]", batch.ticket)


def _task(entry: Entry) -> Task:
    return cast(Task, entry.call)


_FAILED = "the lane failed while it computed this; the server's log has the cause; try again"
_BAD_ROW = "the model gave no finite vector for this item; the server's log has the cause"

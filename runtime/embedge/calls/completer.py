"""Hop 8, off the lane thread: hand each row to the request that waits for it, or tell why there is none."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping
from typing import cast

from embedge import trace
from embedge.batches.batch import Batch
from embedge.calls.task import Task
from embedge.errors import BackendError, EmbedgeError
from embedge.lanes import Group, Outcome
from embedge.scheduling.fair_queue import Entry
from embedge.scheduling.scheduler import Scheduler

__all__ = ["Completer"]

log = logging.getLogger("embedge.calls.completer")


class Completer:
    """One thread, owned by the embedder, that turns outcomes into finished rows while lanes go on."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._outcomes: queue.SimpleQueue[tuple[Batch[Entry], Outcome] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="embedge-completer", daemon=True)
        self._thread.start()

    def deliver(self, batch: Batch[Entry], outcome: Outcome) -> None:
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
                with trace.during("complete", rows=len(batch.rows)):
                    self._complete(batch, outcome)
            except Exception as error:  # this thread must outlive anything, or every waiter hangs
                log.exception("completing a batch of %d failed", len(batch.rows))
                self._fail(batch, error)
            finally:
                self._scheduler.done(batch, outcome.seconds)

    def _complete(self, batch: Batch[Entry], outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(batch, outcome.error)
            return
        lost: dict[int, object] = dict(outcome.faults)
        for group in outcome.groups:
            self._hand_over(group, batch)
            if not group.good.all():
                lost |= {
                    row: "no output that its kind allows"
                    for row, good in zip(group.rows, group.good, strict=True)
                    if not good
                }
        if lost:
            self._tell(lost, batch)

    def _hand_over(self, group: Group, batch: Batch[Entry]) -> None:
        """Give each task its good rows of the group."""
        entries = batch.entries
        places: dict[Task, list[int]] = {}
        for place, good in enumerate(group.good.tolist()):
            if good:
                places.setdefault(_task(entries[group.rows[place]]), []).append(place)
        for task, own in places.items():
            every = len(own) == len(group.rows)
            tensors = {name: group.arrays[name] if every else group.arrays[name][own] for name in task.tensors}
            task.add_rows([entries[group.rows[place]].index for place in own], tensors, batch.formed)

    def _tell(self, lost: Mapping[int, object], batch: Batch[Entry]) -> None:
        """Tell each task of the rows that it will not get."""
        errors: dict[Task, dict[int, EmbedgeError]] = {}
        for row, why in lost.items():
            log.error("an item could not be computed: %r", why)
            entry = batch.entries[row]
            errors.setdefault(_task(entry), {})[entry.index] = BackendError(_BAD_ROW)
        for task, own in errors.items():
            task.fail_items(own)

    def _fail(self, batch: Batch[Entry], cause: Exception) -> None:
        for task in dict.fromkeys(_task(entry) for entry in batch.entries):
            error = BackendError(_FAILED)
            error.__cause__ = cause
            self._scheduler.drop(task, error)  # what it still has in the queue would be computed for nobody
            task.fail(error)


def _task(entry: Entry) -> Task:
    return cast(Task, entry.call)


_FAILED = "the lane failed while it computed this; the server's log has the cause; try again"
_BAD_ROW = "the model gave no finite vector for this item; the server's log has the cause"

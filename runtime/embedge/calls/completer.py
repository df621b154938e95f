"""Hands the rows of finished batches to the requests that wait for them, off the lanes' threads."""

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

_FAILED = "the lane failed while it computed this; the server's log has the cause; try again"
_BAD_ROW = "the model gave no finite vector for this item; the server's log has the cause"


class Completer:
    """One thread that turns outcomes into finished rows while lanes go on. Owned by the embedder."""

    def __init__(self, scheduler: Scheduler) -> None:
        """Start the thread.

        Args:
            scheduler: Counts finished batches, and drops the rest of a failed call.
        """
        self._scheduler = scheduler
        self._outcomes: queue.SimpleQueue[tuple[Batch[Entry], Outcome] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._main, name="embedge-completer", daemon=True)
        self._thread.start()

    def deliver(self, batch: Batch[Entry], outcome: Outcome) -> None:
        """Take over a batch from a lane. Returns at once."""
        self._outcomes.put((batch, outcome))

    def close(self) -> None:
        """Finish what was delivered, then end the thread."""
        self._outcomes.put(None)
        if self._thread is not threading.current_thread():  # a reply's callback may close the embedder
            self._thread.join()

    def _main(self) -> None:
        while (delivered := self._outcomes.get()) is not None:
            batch, outcome = delivered
            try:
                with trace.during("complete", rows=len(batch.rows)):
                    self._complete(batch, outcome)
            except Exception as error:  # without this thread, every waiter would hang
                log.exception("completing a batch of %d rows failed", len(batch.rows))
                self._fail(batch, error)
            finally:
                self._scheduler.done(batch, outcome.seconds)

    def _complete(self, batch: Batch[Entry], outcome: Outcome) -> None:
        if outcome.error is not None:
            self._fail(batch, outcome.error)
            return
        bad_rows: dict[int, object] = dict(outcome.faults)
        for group in outcome.groups:
            self._add_rows(group, batch)
            if not group.good.all():
                bad_rows |= {
                    row: "its output is not valid" for row, good in zip(group.rows, group.good, strict=True) if not good
                }
        if bad_rows:
            self._fail_rows(bad_rows, batch)

    def _add_rows(self, group: Group, batch: Batch[Entry]) -> None:
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

    def _fail_rows(self, bad_rows: Mapping[int, object], batch: Batch[Entry]) -> None:
        """Fail the items of bad rows alone."""
        errors: dict[Task, dict[int, EmbedgeError]] = {}
        for row, cause in bad_rows.items():
            log.error("an item could not be computed: %r", cause)
            entry = batch.entries[row]
            errors.setdefault(_task(entry), {})[entry.index] = BackendError(_BAD_ROW)
        for task, own in errors.items():
            task.fail_items(own)

    def _fail(self, batch: Batch[Entry], cause: Exception) -> None:
        """Fail every request that has a row in the batch."""
        for task in dict.fromkeys(_task(entry) for entry in batch.entries):
            error = BackendError(_FAILED)
            error.__cause__ = cause
            self._scheduler.drop(task, error)  # nobody waits for the rest of it
            task.fail(error)


def _task(entry: Entry) -> Task:
    return cast(Task, entry.call)

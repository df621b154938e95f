"""Hop 4's threads: items are prepared in pieces and pushed into the queue as they are ready."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor

from embedge.errors import BackendError, EmbedgeError
from embedge.fairqueue import Entry
from embedge.inputs.items import ItemInput
from embedge.scheduler import Scheduler
from embedge.task import Task

__all__ = ["Preparer"]

log = logging.getLogger("embedge.preparer")

# Items prepared between two looks at the queue: large calls enter it piece by piece, so small ones are not held up.
_CHUNK = 256


class Preparer:
    """Prepares tasks, at once in the caller's thread or later in its own threads, which the embedder owns."""

    def __init__(self, inputs: dict[str, ItemInput], scheduler: Scheduler, *, threads: int) -> None:
        self._inputs = inputs
        self._scheduler = scheduler
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="embedge-prepare")

    def now(self, task: Task) -> None:
        """Prepare and push all items of the task in this thread."""
        for start in range(0, len(task.request.items), _CHUNK):
            if not task.future.done():  # it may have failed or expired meanwhile
                self._prepare(task, start)

    def later(self, task: Task, start: int = 0) -> None:
        """Prepare chunk after chunk in the pool; each goes to the end of the line, so that calls take turns."""
        try:
            chunk = self._pool.submit(self._prepare, task, start)
        except RuntimeError:  # the pool was shut down meanwhile; the scheduler tells the waiter
            log.debug("preparing stopped at item %d: closed", start)
        else:
            chunk.add_done_callback(lambda _: self._next(task, start + _CHUNK))

    def close(self) -> None:
        """End the threads; what was not prepared yet is not."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _next(self, task: Task, start: int) -> None:
        if start < len(task.request.items) and not task.future.done():
            self.later(task, start)

    def _prepare(self, task: Task, start: int) -> None:
        began = time.monotonic()
        try:
            rows = self._inputs[task.tower].prepare(task.request.items[start : start + _CHUNK], task.request)
        except Exception as error:  # a fault of ours, not of the caller's: the waiter is told, the log has the rest
            log.exception("preparing items from %d on failed", start)
            untold = BackendError("the items could not be prepared; the log has the cause")
            told = error if isinstance(error, EmbedgeError) else untold
            self._scheduler.drop(task, told)
            task.fail(told)
            return
        errors = {start + place: row for place, row in enumerate(rows) if isinstance(row, EmbedgeError)}
        length = self._inputs[task.tower].length
        entries = [
            Entry(task, start + place, row, length(row))
            for place, row in enumerate(rows)
            if not isinstance(row, EmbedgeError)
        ]
        task.prepared(time.monotonic() - began, entries)
        self._scheduler.push(task, entries, skipped=len(errors))
        task.fail_items(errors)

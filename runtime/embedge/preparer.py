"""Hop 4's threads: items are prepared in pieces and pushed into the queue as they are ready."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from embedge.batch import Row
from embedge.errors import BackendError, EmbedgeError
from embedge.fairqueue import Entry
from embedge.inputs.items import ItemInput
from embedge.request import Item
from embedge.scheduler import Scheduler
from embedge.task import Task

__all__ = ["Preparer"]

log = logging.getLogger("embedge.preparer")

# Items prepared between two looks at the queue: large calls enter it piece by piece, so small ones are not held up.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class _Job:
    """Up to `_CHUNK` items of a task, from `start` on."""

    task: Task
    start: int

    @property
    def items(self) -> Sequence[Item]:
        return self.task.request.items[self.start : self.start + _CHUNK]

    @property
    def manner(self) -> tuple[str, str | None, bool]:
        """What must be alike for jobs to be prepared together."""
        return self.task.tower, self.task.request.prompt, self.task.request.truncate


class Preparer:
    """Prepares tasks, at once in the caller's thread or later in its own threads, which the embedder owns."""

    def __init__(self, inputs: dict[str, ItemInput], scheduler: Scheduler, *, threads: int) -> None:
        self._inputs = inputs
        self._scheduler = scheduler
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._main, name=f"embedge-prepare-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def now(self, task: Task) -> None:
        """Prepare and push all items of the task in this thread."""
        for start in range(0, len(task.request.items), _CHUNK):
            if not task.future.done():  # it may have failed or expired meanwhile
                self._prepare([_Job(task, start)])

    def later(self, task: Task) -> None:
        """Prepare the task in the threads, chunk after chunk, each from the end of the line: calls take turns."""
        self._jobs.put(_Job(task, 0))

    def close(self) -> None:
        """End the threads; what was not prepared yet is not, and the scheduler tells the waiters."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _main(self) -> None:
        while (job := self._jobs.get()) is not None:
            jobs = [each for each in self._with_company(job) if not each.task.future.done()]
            if not jobs:
                continue
            try:
                self._prepare(jobs)
            except Exception as error:  # this thread must outlive anything, or later calls hang
                for each in jobs:
                    self._fail(each.task, error)
            for each in jobs:
                start = each.start + _CHUNK
                if start < len(each.task.request.items):
                    self._jobs.put(_Job(each.task, start))

    def _with_company(self, job: _Job) -> list[_Job]:
        """Return the job with those that wait and can be prepared with it: one tokenizer call, one push, for all."""
        jobs, count = [job], len(job.items)
        while count < _CHUNK and not self._jobs.empty():
            try:
                other = self._jobs.get_nowait()
            except queue.Empty:  # another thread was faster
                break
            if other is None or other.manner != job.manner:
                self._jobs.put(other)
                break
            jobs.append(other)
            count += len(other.items)
        return jobs

    def _prepare(self, jobs: Sequence[_Job]) -> None:
        began = time.monotonic()
        first = jobs[0].task
        items = [item for job in jobs for item in job.items]
        try:
            rows = self._inputs[first.tower].prepare(items, first.request)
        except Exception as error:  # a fault of ours, not of the callers': waiters are told, the log has the rest
            if len(jobs) > 1:  # whose item it was is found by preparing each call alone
                for job in jobs:
                    self._prepare([job])
                return
            self._fail(first, error)
            return
        seconds = time.monotonic() - began
        place = 0
        for job in jobs:
            count = len(job.items)
            self._push(job, rows[place : place + count], seconds * count / len(items))
            place += count

    def _push(self, job: _Job, rows: Sequence[Row | EmbedgeError], seconds: float) -> None:
        task = job.task
        length = self._inputs[task.tower].length
        entries, errors = [], {}
        for index, row in enumerate(rows, job.start):
            if isinstance(row, EmbedgeError):
                errors[index] = row
            else:
                entries.append(Entry(task, index, row, length(row)))
        task.prepared(seconds, entries)
        self._scheduler.push(task, entries, skipped=len(errors))
        task.fail_items(errors)

    def _fail(self, task: Task, error: Exception) -> None:
        log.error("preparing items failed", exc_info=error)
        untold = BackendError("the items could not be prepared; the log has the cause")
        told = error if isinstance(error, EmbedgeError) else untold
        self._scheduler.drop(task, told)
        task.fail(told)

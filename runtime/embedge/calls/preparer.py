"""Prepares items in chunks and pushes them into the queue as they are ready."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from embedge import trace
from embedge.batches.batch import Row
from embedge.calls.task import Task
from embedge.errors import BackendError, EmbedgeError
from embedge.inputs.items import ItemInput
from embedge.inputs.wanted import while_wanted
from embedge.request import Item
from embedge.scheduling.fair_queue import Entry
from embedge.scheduling.scheduler import Scheduler
from embedge.split import cuts

__all__ = ["Preparer"]

log = logging.getLogger("embedge.calls.preparer")

# Limits of a chunk. Calls take turns, chunk by chunk, so that small calls do not wait for large ones.
_ITEMS = 256
_WEIGHT = 256 << 10  # bytes, or characters
# Characters of a string that is tokenized faster (in about 0.1 ms) than a thread is woken for it.
_SHORT = 1024


class _Chunks:
    """The chunks of a task that no thread has taken yet."""

    def __init__(self, task: Task, weigh: Callable[[Item], int]) -> None:
        self._cuts = cuts(task.request.items, weigh, max_items=_ITEMS, max_weight=_WEIGHT)
        self._lock = threading.Lock()  # guards `_cuts`, between the threads that prepare this task

    def take(self) -> tuple[int, int, int] | None:
        with self._lock:
            return next(self._cuts, None)


@dataclass(frozen=True)
class _TaskChunk:
    """A chunk of a task, items `start` to `end`. `rest` has the chunks after it."""

    task: Task
    rest: _Chunks
    start: int
    end: int
    weight: int

    @cached_property
    def items(self) -> Sequence[Item]:
        return self.task.request.items[self.start : self.end]

    @property
    def group_key(self) -> tuple[str, str | None, bool]:
        """Equal for chunks that can be prepared together."""
        return self.task.tower, self.task.request.prompt, self.task.request.truncate

    @property
    def wanted(self) -> bool:
        """Whether a caller still waits. The scheduler fails calls whose deadline has passed."""
        return not self.task.future.done() and time.monotonic() < self.task.deadline


class Preparer:
    """Prepares tasks, in the caller's thread or in threads of its own. Owned by the embedder."""

    def __init__(self, inputs: dict[str, ItemInput], scheduler: Scheduler, *, threads: int) -> None:
        """Start the threads.

        Args:
            inputs: By tower, what prepares its items.
            scheduler: Receives prepared items.
            threads: How many threads prepare.
        """
        self._inputs = inputs
        self._scheduler = scheduler
        self._chunks: deque[_TaskChunk] = deque()
        self._closed = False
        self._changed = threading.Condition()  # guards the two fields above; released while a chunk is prepared
        self._threads = [
            threading.Thread(target=self._main, name=f"embedge-prepare-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def now(self, task: Task) -> None:
        """Prepare and push all items of the task in this thread. Other threads take chunks too where that is faster."""
        rest = _Chunks(task, self._inputs[task.tower].weight)
        chunk = rest.take()
        self._share(task, rest, len(self._threads))
        while chunk is not None:
            job = _TaskChunk(task, rest, *chunk)
            if not job.wanted:  # it may have failed or expired meanwhile
                return
            self._prepare([job])
            chunk = rest.take()
            if chunk is not None:
                self._scheduler.wait_for_capacity(task)

    def later(self, task: Task) -> None:
        """Prepare the task in the threads. Calls take turns, chunk by chunk.

        A single short string is prepared at once, in this thread, while the scheduler is idle.
        """
        items = task.request.items
        if len(items) == 1 and isinstance(items[0], str) and len(items[0]) <= _SHORT and self._scheduler.idle:
            try:
                self.now(task)
            except Exception as error:  # raised where the caller waits
                self.fail(task, error)
            return
        rest = _Chunks(task, self._inputs[task.tower].weight)
        self._queue(task, rest)
        self._share(task, rest, len(self._threads) - 1)

    def _share(self, task: Task, rest: _Chunks, threads: int) -> None:
        """Let more threads prepare the task, unless one chunk keeps all cores busy."""
        if not self._inputs[task.tower].threaded:
            for _ in range(threads):
                self._queue(task, rest)

    def close(self, timeout: float | None = None) -> None:
        """End the threads. Chunks not begun are dropped; the scheduler fails their calls.

        Args:
            timeout: Seconds after which threads that are inside a chunk, such as a long video, are left behind.
        """
        end = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():  # a bad item's callback may close the embedder
                thread.join(None if end is None else max(0.0, end - time.monotonic()))

    def _queue(self, task: Task, rest: _Chunks) -> None:
        """Append the task's next chunk, if any, to the queue of chunks."""
        chunk = rest.take()
        if chunk is not None:
            with self._changed:
                self._chunks.append(_TaskChunk(task, rest, *chunk))
                self._changed.notify()

    def _main(self) -> None:
        while taken := self._take():
            if taken[0].start:  # the first chunk of a call never waits: it may be small
                self._scheduler.wait_for_capacity(taken[0].task)
            jobs = [job for job in taken if job.wanted]
            try:
                if jobs:
                    self._prepare(jobs)
                for job in jobs:
                    self._queue(job.task, job.rest)
            except Exception as error:  # without this thread, later calls would hang
                for job in jobs:
                    self.fail(job.task, error)

    def _take(self) -> list[_TaskChunk]:
        """Wait for a chunk; return it with the chunks behind it that one tokenizer call can prepare too.

        Empty once closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._closed)
            if self._closed:
                return []
            jobs = [self._chunks.popleft()]
            items, size = len(jobs[0].items), jobs[0].weight
            while self._chunks and self._chunks[0].group_key == jobs[0].group_key:
                items += len(self._chunks[0].items)
                size += self._chunks[0].weight
                if items > _ITEMS or size > _WEIGHT:
                    break
                jobs.append(self._chunks.popleft())
        return jobs

    def _prepare(self, jobs: Sequence[_TaskChunk]) -> None:
        began = time.perf_counter()
        first = jobs[0].task
        items = [item for job in jobs for item in job.items]
        try:
            with while_wanted(lambda: any(job.wanted for job in jobs)):
                rows = self._inputs[first.tower].prepare(items, first.request)
        except Exception as error:  # a bug here, not a bad item: the callers get an error, the log has the cause
            if len(jobs) > 1:  # prepare each call alone, so that only one of them fails
                for job in jobs:
                    self._prepare([job])
                return
            self.fail(first, error)
            return
        ended = time.perf_counter()
        trace.span(trace.thread(), "prepare", began, ended, tower=first.tower, items=len(items), calls=len(jobs))
        seconds = ended - began
        place = 0
        for job in jobs:
            count = len(job.items)
            self._push(job, rows[place : place + count], seconds * count / len(items))
            place += count

    def _push(self, job: _TaskChunk, rows: Sequence[Row | EmbedgeError], seconds: float) -> None:
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

    def fail(self, task: Task, error: Exception) -> None:
        """Fail a task whose items cannot be prepared.

        Args:
            task: The task.
            error: An `EmbedgeError` reaches the caller; any other error goes to the log alone.
        """
        if not isinstance(error, EmbedgeError):
            log.error("preparing items failed", exc_info=error)
        hidden = BackendError("the items could not be prepared; the log has the cause")
        reason = error if isinstance(error, EmbedgeError) else hidden
        self._scheduler.drop(task, reason)
        task.fail(reason)

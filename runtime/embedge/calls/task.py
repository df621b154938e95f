"""One request between submission and reply: its rows so far, and its errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from embedge import outputs
from embedge.bundle.manifest import Manifest
from embedge.errors import EmbedgeError
from embedge.request import Reply, Request, Timings
from embedge.scheduling.fair_queue import Call, Entry

__all__ = ["Task"]


class Task(Call):
    """The call of one request. Collects its rows and resolves its future with the reply.

    Rows arrive from the completer's thread, item errors from the threads that prepare, failures from any thread.

    Attributes:
        request: The request.
        future: Resolves with the reply.
        tokens: (n,) int32, the length of each item once it is prepared.
        tensors: The graph outputs that the requested outputs are read from.
    """

    def __init__(
        self, manifest: Manifest, request: Request, tower: str, sizes: Mapping[str, int], *, trunk: str | None = None
    ) -> None:
        """Create the task of a request.

        Args:
            manifest: The model's manifest.
            request: The request.
            tower: The name of the tower that serves it.
            sizes: For each requested output, in order, the dimension after truncation.
            trunk: See `Call`.
        """
        super().__init__(tower, deadline=request.deadline, priority=request.priority, trunk=trunk)
        self.request = request
        self.future: Future[Reply] = Future()
        self.tokens = np.zeros(len(request.items), np.int32)
        self._manifest = manifest
        wanted = {name: manifest.towers[tower].outputs[name] for name in sizes}
        self.tensors = {tensor for output in wanted.values() for tensor in output.tensors}
        self._collectors = {
            name: outputs.collector(output, len(request.items), dim=sizes[name], dtype=request.dtype, pool=request.pool)
            for name, output in wanted.items()
        }
        self._errors: dict[int, EmbedgeError] = {}
        self._open_items = len(request.items)
        self._start = time.monotonic()
        self._prepare_seconds = 0.0
        self._first_batch = 0.0
        # Guards the fields above, but for `tensors`, which never changes. Held while rows are copied at most.
        self._lock = threading.Lock()

    def prepared(self, seconds: float, entries: Sequence[Entry]) -> None:
        """Record prepared items: the seconds spent, and the length of each item."""
        with self._lock:
            self._prepare_seconds += seconds
            self.tokens[[entry.index for entry in entries]] = [entry.length for entry in entries]

    def fail_items(self, errors: Mapping[int, EmbedgeError]) -> None:
        """Record errors of single items, by index."""
        with self._lock:
            for index, error in errors.items():
                error.index = index
                error.args = (f"item {index}: {error.message}",)
            self._errors.update(errors)
        self._count_down(len(errors))

    def add_rows(self, indices: Sequence[int], tensors: Mapping[str, NDArray[np.generic]], formed: float) -> None:
        """Record computed rows.

        Args:
            indices: The item of each row.
            tensors: The graph outputs named in `tensors`, each (rows, …) for `indices`.
            formed: When their batch was formed.
        """
        with self._lock:
            self._first_batch = self._first_batch or formed
            for collector in self._collectors.values():
                collector.add(indices, tensors)
        self._count_down(len(indices))

    def failed(self, error: EmbedgeError) -> None:
        """Fail the request: the scheduler has dropped it."""
        self.fail(error)

    def fail(self, error: EmbedgeError) -> None:
        """Fail the request as a whole, and discard its rows."""
        with self._lock:
            open_ = self._open_items > 0
            self._open_items = 0
        if open_ and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def _count_down(self, count: int) -> None:
        with self._lock:
            self._open_items -= count
            last = self._open_items == 0 and count > 0
        if last and self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.reply())
            except Exception as error:  # any error must reach the caller
                self.future.set_exception(error)

    def reply(self) -> Reply:
        """Return the reply, with outputs truncated, normalized and quantized."""
        return Reply(
            model=self._manifest.name,
            version=self._manifest.version,
            tower=self.tower,
            outputs={name: collector.finish() for name, collector in self._collectors.items()},
            errors=dict(sorted(self._errors.items())),
            tokens=self.tokens,
            timings=self._timings(),
        )

    def _timings(self) -> Timings:
        now = time.monotonic()
        first = self._first_batch or now
        return Timings(self._prepare_seconds, max(0.0, first - self._start - self._prepare_seconds), now - first)

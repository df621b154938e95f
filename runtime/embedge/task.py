"""One request between its submission and its reply: what was asked, what has come in, what went wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray

from embedge import outputs
from embedge.errors import EmbedgeError
from embedge.fairqueue import Call, Entry
from embedge.manifest import Manifest
from embedge.request import Reply, Request, Timings

__all__ = ["Task"]


class Task(Call):
    """The call of one request: collects its rows and resolves its future with the reply.

    Rows come from the completion thread, item errors from whoever prepares, failures from anywhere.
    """

    def __init__(self, manifest: Manifest, request: Request, tower: str, sizes: Mapping[str, int]) -> None:
        """`sizes`: for each wanted output, in order, the vectors' size after truncation."""
        super().__init__(tower, deadline=request.deadline, priority=request.priority)
        self.request = request
        self.future: Future[Reply] = Future()
        self.tokens = np.zeros(len(request.items), np.int32)
        self._manifest = manifest
        self._sizes = sizes
        self._raw: dict[str, NDArray[np.generic]] = {}
        self._errors: dict[int, EmbedgeError] = {}
        self._left = len(request.items)
        self._start = time.monotonic()
        self._prepare_seconds = 0.0
        self._first_batch = 0.0
        self._lock = threading.Lock()  # guards the fields above; held for a copy of rows at most

    def prepared(self, seconds: float, entries: Sequence[Entry]) -> None:
        """Note what preparing took and how long each item became."""
        with self._lock:
            self._prepare_seconds += seconds
            self.tokens[[entry.index for entry in entries]] = [entry.length for entry in entries]

    def fail_items(self, errors: Mapping[int, EmbedgeError]) -> None:
        """Record items that have an error of their own."""
        with self._lock:
            for index, error in errors.items():
                error.index = index
                error.args = (f"item {index}: {error.message}",)
            self._errors.update(errors)
        self._count_down(len(errors))

    def add_rows(self, indices: Sequence[int], tensors: Mapping[str, NDArray[np.generic]], formed: float) -> None:
        """Record computed rows. tensors: graph outputs by name, row i of each belongs to item indices[i]."""
        with self._lock:
            self._first_batch = self._first_batch or formed
            for name, array in tensors.items():
                if name not in self._raw:
                    self._raw[name] = np.zeros((len(self.tokens), *array.shape[1:]), array.dtype)
                self._raw[name][indices] = array
        self._count_down(len(indices))

    def failed(self, error: EmbedgeError) -> None:
        """Hear from the scheduler that the request is over."""
        self.fail(error)

    def fail(self, error: EmbedgeError) -> None:
        """Fail the request as a whole; what was computed is not wanted any more."""
        with self._lock:
            open_ = self._left > 0
            self._left = 0
        if open_ and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def _count_down(self, count: int) -> None:
        with self._lock:
            self._left -= count
            last = self._left == 0 and count > 0
        if last and self.future.set_running_or_notify_cancel():
            try:
                self.future.set_result(self.reply())
            except Exception as error:  # whoever waits must hear of it, whatever it is
                self.future.set_exception(error)

    def reply(self) -> Reply:
        """Return the reply: outputs cut, normalised and quantised in one go."""
        tower = self._manifest.towers[self.tower]
        results = {}
        for name, size in self._sizes.items():
            output = tower.outputs[name]
            raw = self._raw.get(output.tensor)
            if raw is None:
                raw = np.zeros((len(self.tokens), output.dim), np.float32)
            results[name] = outputs.finish(
                raw.astype(np.float32, copy=False), output, dim=size, dtype=self.request.dtype
            )
        return Reply(
            model=self._manifest.name,
            version=self._manifest.version,
            tower=self.tower,
            outputs=results,
            errors=dict(sorted(self._errors.items())),
            tokens=self.tokens,
            timings=self._timings(),
        )

    def _timings(self) -> Timings:
        now = time.monotonic()
        first = self._first_batch or now
        return Timings(self._prepare_seconds, max(0.0, first - self._start - self._prepare_seconds), now - first)

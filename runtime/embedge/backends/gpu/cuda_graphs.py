"""Captured graphs: runs of one shape that were recorded once and are launched as one from then on.

A launch costs the processor some microseconds, where enqueueing all kernels of a graph costs some for each of them.
What is recorded holds for one shape at fixed addresses. So a shape runs plainly at first, is recorded when it comes
back, and is forgotten when others are wanted more.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from embedge.backends.gpu.executable import Bound, Executable, Forks
from embedge.cuda import CapturedGraph, CudaError, Driver, Event, Stream

__all__ = ["CapturedGraphs"]

log = logging.getLogger("embedge.backends")

_SEEN = 8  # shapes that are remembered to have run once, for each that may be recorded
_FULL = "CUDA_ERROR_OUT_OF_MEMORY"
_RESERVE = 16  # nothing is recorded while less than one part in so many of the GPU's memory is free


@dataclass
class _RecordedRun:
    """One shape's own kernel, what was recorded of it, and the event behind its last run."""

    kernel: Executable
    last: Event
    own: bool  # the kernel is a fork
    cold: bool  # it has not run yet, and has to before it is recorded
    graph: CapturedGraph | None = None

    def close(self) -> None:
        if self.graph is not None:
            self.graph.close()
        self.last.close()
        if self.own:
            self.kernel.close()


class CapturedGraphs:
    """Enqueues a kernel's runs, recorded where they can be. Owned by a session, used in the lane's thread."""

    def __init__(self, driver: Driver, stream: Stream, kernel: Executable, most: int, *, name: str) -> None:
        """`most`: shapes that are kept recorded; 0: none. `name`: of the graph, for the log."""
        self._driver = driver
        self._stream = stream
        self._kernel = kernel
        self._most = most if driver.captures and kernel.capturable else 0
        self._name = name
        self._seen: OrderedDict[Hashable, None] = OrderedDict()  # ran once, the newest last
        self._runs: OrderedDict[Hashable, _RecordedRun] = OrderedDict()  # the one that was wanted last is the last
        self._misfits: set[Hashable] = set()  # cannot be recorded

    def __len__(self) -> int:
        return sum(run.graph is not None for run in self._runs.values())

    def enqueue(self, key: Hashable, inputs: Bound, outputs: Bound, consumed: Event | None) -> None:
        """Put a run on the stream. key: is the same only where shapes and addresses are. Raises as the kernel does."""
        run = self._run(key) if self._most and key not in self._misfits else None
        if run is None or not self._ready(key, run, inputs, outputs):
            self._kernel.enqueue(inputs, outputs, self._stream, consumed)
            return
        if run.graph is not None:
            run.graph.launch(self._stream)
            if consumed is not None:  # what is recorded within a graph cannot be waited for
                consumed.record(self._stream)
        else:
            run.kernel.enqueue(inputs, outputs, self._stream, consumed)
        run.last.record(self._stream)

    def clear(self) -> None:
        """Forget all that is recorded, once nothing of it runs any more: its addresses are no longer good."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self._seen.clear()

    def _run(self, key: Hashable) -> _RecordedRun | None:
        """Return what there is of a shape that came back; None for a new one."""
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key]
        if key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > _SEEN * self._most:
                self._seen.popitem(last=False)
            return None
        return self._new(key)

    def _new(self, key: Hashable) -> _RecordedRun | None:
        """Return a place for a shape; the one that was not wanted for longest gives way."""
        free, total = self._driver.free_memory()
        if free < total // _RESERVE:
            return None
        while len(self._runs) >= self._most:
            _, oldest = self._runs.popitem(last=False)
            oldest.last.wait()  # it may be running
            oldest.close()
        try:
            run = self._fork()
        except Exception as error:
            self._misfit(key, error)
            return None
        del self._seen[key]
        self._runs[key] = run
        return run

    def _fork(self) -> _RecordedRun:
        own = isinstance(self._kernel, Forks)
        kernel = self._kernel.fork() if isinstance(self._kernel, Forks) else self._kernel
        try:
            last = self._driver.event()
        except Exception:
            if own:
                kernel.close()
            raise
        last.record(self._stream)
        return _RecordedRun(kernel, last, own=own, cold=own)

    def _ready(self, key: Hashable, run: _RecordedRun, inputs: Bound, outputs: Bound) -> bool:
        """Record the run if that is its turn; return False if it cannot be. A kernel of its own runs plainly before."""
        if run.graph is not None:
            return True
        if run.cold:
            run.cold = False
            return True
        try:
            run.graph = self._driver.capture(
                self._stream, lambda: run.kernel.enqueue(inputs, outputs, self._stream, None)
            )
        except Exception as error:
            self._misfit(key, error)
            del self._runs[key]
            run.last.wait()
            run.close()
            return False
        return True

    def _misfit(self, key: Hashable, error: Exception) -> None:
        """Let a shape run plainly from now on, and all of them if so many cannot be recorded. Raises a fatal error."""
        if isinstance(error, CudaError) and error.fatal:
            raise error
        if isinstance(error, CudaError) and error.code == _FULL:
            self._seen.pop(key, None)  # others may give memory back: it is tried again when it comes back twice
            return
        if not self._misfits:
            log.warning("graph %s: a run cannot be recorded and is enqueued piece by piece: %s", self._name, error)
        self._misfits.add(key)
        if len(self._misfits) >= self._most:
            self._most = 0

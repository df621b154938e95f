"""CUDA graphs: runs of one shape, captured once and launched as one from then on.

A launch costs the CPU some microseconds; enqueueing a graph's kernels one by one costs as much for each of them. A
captured run holds for one shape at fixed addresses. So a shape runs plainly at first, is captured when it comes back,
and gives way when others are wanted more.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass

from embedge.backends.gpu.executable import Bindings, Executable, Forkable
from embedge.cuda import CapturedGraph, CudaError, Driver, Event, Stream

__all__ = ["CapturedGraphs"]

log = logging.getLogger("embedge.backends")

_SEEN = 8  # shapes remembered after one run, for each that may be captured
_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"
_RESERVE = 16  # nothing is captured while less than one part in so many of the GPU's memory is free


@dataclass
class _CapturedRun:
    """One shape's executable, its captured graph, and the event behind its last run."""

    executable: Executable
    done: Event
    forked: bool  # the executable serves this shape alone
    cold: bool  # it has to run plainly before it is captured
    graph: CapturedGraph | None = None

    def close(self) -> None:
        if self.graph is not None:
            self.graph.close()
        self.done.close()
        if self.forked:
            self.executable.close()


class CapturedGraphs:
    """Enqueues an executable's runs, from CUDA graphs where possible. Owned by a session, used in the lane's thread."""

    def __init__(self, driver: Driver, stream: Stream, executable: Executable, most: int, *, name: str) -> None:
        """Capture nothing yet.

        Args:
            driver: The GPU.
            stream: The lane's stream.
            executable: The graph's work; the session closes it.
            most: Most shapes to keep captured; 0 captures none.
            name: The graph's name, for the log.
        """
        self._driver = driver
        self._stream = stream
        self._executable = executable
        self._most = most if driver.captures and executable.capturable else 0
        self._name = name
        self._seen: OrderedDict[Hashable, None] = OrderedDict()  # ran once, the newest last
        self._runs: OrderedDict[Hashable, _CapturedRun] = OrderedDict()  # the latest wanted last
        self._uncapturable: set[Hashable] = set()

    def __len__(self) -> int:
        return sum(run.graph is not None for run in self._runs.values())

    def enqueue(self, key: Hashable, inputs: Bindings, outputs: Bindings, consumed: Event | None) -> None:
        """Put a run on the stream. Raises as the executable does.

        Args:
            key: Equal only for equal shapes at equal addresses.
            inputs: Where the graph reads.
            outputs: Where the graph writes.
            consumed: Recorded once the inputs may be refilled.
        """
        run = self._find(key) if self._most and key not in self._uncapturable else None
        if run is None or not self._prepare(key, run, inputs, outputs):
            self._executable.enqueue(inputs, outputs, self._stream, consumed)
            return
        if run.graph is not None:
            run.graph.launch(self._stream)
            if consumed is not None:  # an event that a graph records cannot be waited for
                consumed.record(self._stream)
        else:
            run.executable.enqueue(inputs, outputs, self._stream, consumed)
        run.done.record(self._stream)

    def clear(self) -> None:
        """Forget all captured runs, once none of them runs any more: their addresses are no longer valid."""
        for run in self._runs.values():
            run.close()
        self._runs.clear()
        self._seen.clear()

    def _find(self, key: Hashable) -> _CapturedRun | None:
        """Return the run of a shape that came back; None for a new shape."""
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key]
        if key not in self._seen:
            self._seen[key] = None
            if len(self._seen) > _SEEN * self._most:
                self._seen.popitem(last=False)
            return None
        return self._add(key)

    def _add(self, key: Hashable) -> _CapturedRun | None:
        """Add a shape; the one not wanted for longest gives way."""
        free, total = self._driver.free_memory()
        if free < total // _RESERVE:
            return None
        while len(self._runs) >= self._most:
            _, oldest = self._runs.popitem(last=False)
            oldest.done.wait()  # it may be running
            oldest.close()
        try:
            run = self._fork()
        except Exception as error:
            self._reject(key, error)
            return None
        del self._seen[key]
        self._runs[key] = run
        return run

    def _fork(self) -> _CapturedRun:
        forked = isinstance(self._executable, Forkable)
        executable = self._executable.fork() if isinstance(self._executable, Forkable) else self._executable
        try:
            done = self._driver.event()
        except Exception:
            if forked:
                executable.close()
            raise
        done.record(self._stream)
        return _CapturedRun(executable, done, forked=forked, cold=forked)

    def _prepare(self, key: Hashable, run: _CapturedRun, inputs: Bindings, outputs: Bindings) -> bool:
        """Capture the run if that is its turn, after a fork's first plain run; return False if it can't be captured."""
        if run.graph is not None:
            return True
        if run.cold:
            run.cold = False
            return True
        try:
            run.graph = self._driver.capture(
                self._stream, lambda: run.executable.enqueue(inputs, outputs, self._stream, None)
            )
        except Exception as error:
            self._reject(key, error)
            del self._runs[key]
            run.done.wait()
            run.close()
            return False
        return True

    def _reject(self, key: Hashable, error: Exception) -> None:
        """Run a shape plainly from now on, and all shapes if too many are rejected. Raises a fatal error."""
        if isinstance(error, CudaError) and error.fatal:
            raise error
        if isinstance(error, CudaError) and error.code == _OUT_OF_MEMORY:
            self._seen.pop(key, None)  # memory may be free again once the shape has come back twice
            return
        if not self._uncapturable:
            log.warning("graph %s: a run cannot be captured and is enqueued kernel by kernel: %s", self._name, error)
        self._uncapturable.add(key)
        if len(self._uncapturable) >= self._most:
            self._most = 0

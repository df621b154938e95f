"""A machine with one simulated GPU. It computes real numbers in an adversarial order and enforces the rules.

The fake modules `cuda.bindings.driver` and `pycuda.driver` are thin faces of it; so are those of TensorRT and ONNX
Runtime. Calls that fail on a real GPU raise `Failure`, which the faces turn into what their users expect. Rules that a
real GPU does not check raise `Violation`. Both kinds of misuse are remembered in `violations`:

- a call without a context, with a context that was reset, before cuInit; a thread that leaves pycuda's stack full
- an address that is not allocated, freed, too short or unaligned; a kernel that touches what it did not name
- pinned memory refilled before it was read, or written to after it was freed; pageable memory in an asynchronous copy
- memory, an event, a stream or a captured graph freed while work in flight uses it; freed twice; leaked
- two streams that touch the same bytes with no event between them; a result overwritten before it can be read
- the null stream, and streams that wait for it; an event that is waited for and was never recorded
- in a capture: allocating, freeing, waiting, asking; joining work outside of it; ending it in another thread
- a kernel that raises; an object of one thread in two

What is not yet there is garbage: new memory, and the target of a copy-out until the copy ran, are NaN.

In a test: the fixture `simulate` of tests.simulated.fixtures, or `simulated` of tests.simulated.install. In a process
of its own: the folder `site`. A kernel is any function that is given to `enqueue`, and uses `read` and `write`.
"""

from __future__ import annotations

import threading

from tests.simulated.capture import Capture, Exec, Graph
from tests.simulated.clock import Slice
from tests.simulated.device import Device
from tests.simulated.errors import Failure
from tests.simulated.streams import Op, Stream
from tests.simulated.work import Work

__all__ = ["Device", "Machine"]


class Machine(Work):
    """All state of the simulated GPU. One lock, taken by every method; not held while a thread waits for the GPU."""

    def begin_capture(self, handle: int, mode: str) -> None:
        with self.lock:
            self._enter()
            stream = self._get(handle, Stream)
            if stream.capture is not None:
                self.violate("the stream is being captured already", "CUDA_ERROR_ILLEGAL_STATE")
            stream.capture = Capture(mode)

    def end_capture(self, handle: int) -> Graph:
        with self.lock:
            context = self._enter()
            stream = self._get(handle, Stream)
            capture = stream.capture
            if capture is None:
                self.violate("the stream is not being captured", "CUDA_ERROR_ILLEGAL_STATE")
            if capture.mode != "relaxed" and capture.thread is not threading.current_thread():
                self.violate("a capture is ended in another thread", "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD")
            stream.capture = None
            if capture.broken:
                raise Failure("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
            return self._add(Graph(self._new_handle(), context, capture.ops))

    def capture_status(self, handle: int) -> str:
        """Return "none", "active" or "invalidated"."""
        with self.lock:
            self._enter()
            capture = self._get(handle, Stream).capture
            return "none" if capture is None else "invalidated" if capture.broken else "active"

    def instantiate(self, handle: int) -> Exec:
        with self.lock:
            context = self._enter()
            return self._add(Exec(self._new_handle(), context, self._get(handle, Graph).ops))

    def launch(self, exec_handle: int, stream_handle: int) -> None:
        """Enqueue a captured graph's work, with the addresses that it was captured with."""
        with self.lock:
            self._enter()
            graph, stream = self._get(exec_handle, Exec), self._get(stream_handle, Stream)
            if stream.capture is not None:
                stream.capture.broken = True
                raise Failure("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "a graph in a graph is not simulated")
            for op in graph.ops:
                for span in (*op.reads, *op.writes):
                    if not span.region.alive:
                        self.violate(f"use after free: {op.name} of a captured graph", "CUDA_ERROR_ILLEGAL_ADDRESS")
            graph.last = Op("graph")
            for op in (*(each.again() for each in graph.ops), graph.last):
                self.scheduler.submit(stream, op)

    def destroy_graph(self, handle: int) -> None:
        with self.lock:
            failure = self._enter_to_free(captured=True)
            self._get(handle, Graph)
            del self._objects[handle]
            if failure:
                raise failure

    def destroy_exec(self, handle: int) -> None:
        with self.lock:
            failure = self._enter_to_free(captured=True)
            graph = self._get(handle, Exec)
            del self._objects[handle]
            if graph.last is not None and not graph.last.done and not graph.context.dead:
                self.violate("a captured graph is destroyed while it runs")
            if failure:
                raise failure

    @property
    def timeline(self) -> list[Slice]:
        """All that ran on an engine, by start."""
        with self.lock:
            return list(self.clock.timeline)

    def now(self) -> float:
        """Return the calling thread's virtual time, in seconds."""
        return self.clock.now()

    def spend(self, seconds: float) -> None:
        """Let the calling thread take this long for something."""
        self.clock.reach(self.clock.now() + seconds)

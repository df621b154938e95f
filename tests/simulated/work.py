"""Work on the machine: streams, events, kernels and copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.simulated.core import Core
from tests.simulated.errors import Failure
from tests.simulated.memory import Span
from tests.simulated.streams import Event, Op, Stream

__all__ = ["Work"]

Range = tuple[int, int]  # address, bytes


class Work(Core):
    """What is enqueued and waited for."""

    def stream(self, *, blocking: bool = False) -> Stream:
        with self.lock:
            context = self._enter()
            if blocking:
                self.violate("the stream waits for the null stream: make it with CU_STREAM_NON_BLOCKING")
            made = self._add(Stream(self._new_handle(), context))
            self.scheduler.streams[made.handle] = made
            return made

    def event(self, *, timing: bool = True) -> Event:
        with self.lock:
            return self._add(Event(self._new_handle(), self._enter(), timing))

    def destroy_stream(self, handle: int) -> None:
        with self.lock:
            failure = self._enter_to_free()
            stream = self._get(handle, Stream)
            del self._objects[handle], self.scheduler.streams[handle]
            if stream.queue:
                self.violate(f"a stream is destroyed while {stream.queue[0].name} is in flight")
            if failure:
                raise failure

    def destroy_event(self, handle: int) -> None:
        with self.lock:
            failure = self._enter_to_free(captured=True)
            event = self._get(handle, Event)
            del self._objects[handle]
            if event.recorded in self.scheduler.pending():
                self.violate("an event is destroyed before it has come")
            if failure:
                raise failure

    def enqueue(
        self,
        stream_handle: int,
        kind: str,
        run: Callable[[], None],
        reads: Iterable[Range] = (),
        writes: Iterable[Range] = (),
        seconds: float = 0.0,
        name: str = "kernel",
        *,
        capturable: bool = True,
    ) -> None:
        """Enqueue work that touches these device addresses, in a stream. kind: copy-in, compute or copy-out."""
        with self.lock:
            self._enter()
            spans = [tuple(self.memory.at(*each) for each in ranges) for ranges in (reads, writes)]
            self._queue(stream_handle, Op(name, kind, run, *spans, seconds), capturable=capturable)

    def _queue(self, handle: int, op: Op, *, capturable: bool = True) -> None:
        stream = self._get(handle, Stream)
        if stream.capture is None:
            self.scheduler.submit(stream, op)
        elif not capturable:
            stream.capture.broken = True
            raise Failure("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", f"{op.name} cannot be captured")
        else:
            stream.capture.add(op)

    def copy_in(self, to: int, source: int, nbytes: int, stream: int) -> None:
        """Copy from pinned memory, by its host address, to a device address."""
        with self.lock:
            self._enter()
            target, host = self.memory.at(to, nbytes), self.memory.on_host(source, nbytes)
            self._copy(stream, "copy-in", target, host, self.cost.copy_in(nbytes))

    def copy_out(self, to: int, source: int, nbytes: int, stream: int) -> None:
        """Copy from a device address to pinned memory, by its host address."""
        with self.lock:
            self._enter()
            host, origin = self.memory.on_host(to, nbytes), self.memory.at(source, nbytes)
            self._copy(stream, "copy-out", host, origin, self.cost.copy_out(nbytes))

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        """Copy from one device address to another."""
        with self.lock:
            self._enter()
            self._copy(stream, "compute", self.memory.at(to, nbytes), self.memory.at(source, nbytes), 0.0)

    def _copy(self, stream: int, kind: str, target: Span, source: Span, seconds: float) -> None:
        def run() -> None:
            if not (target.region.alive and source.region.alive):
                self.violate(f"use after free: a {kind}")
            target.data[:] = source.data

        self._queue(stream, Op(kind, kind, run, (source,), (target,), seconds))

    def record(self, event_handle: int, stream_handle: int) -> None:
        with self.lock:
            self._enter()
            event, stream = self._get(event_handle, Event), self._get(stream_handle, Stream)
            op = Op("event")
            event.captured = stream.capture is not None
            event.recorded = op
            self._queue(stream_handle, op)

    def wait_for(self, stream_handle: int, event_handle: int) -> None:
        """Let a stream wait for an event, as it is recorded now."""
        with self.lock:
            self._enter()
            stream, event = self._get(stream_handle, Stream), self._get(event_handle, Event)
            last = self._recorded(event)
            if stream.capture is not None or event.captured:
                self._wait_in_capture(stream, last)
            else:
                self._queue(stream_handle, Op("wait", needs=(last,)))

    def _wait_in_capture(self, stream: Stream, last: Op) -> None:
        if stream.capture is None or last not in stream.capture.ops:
            for capture in (each.capture for each in self.scheduler.streams.values()):
                if capture and (capture is stream.capture or last in capture.ops):
                    capture.broken = True
            message = "a wait joins a capture and work outside of it"
            self.violate(message, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION")

    def _recorded(self, event: Event) -> Op:
        if event.recorded is None:
            self.violate("an event is waited for that was never recorded: it does not wait at all")
        return event.recorded

    def synchronise(self, event_handle: int) -> None:
        """Wait for an event in the calling thread."""
        with self.lock:
            context = self._enter(captured=False)
            self.scheduler.wait(self._not_captured(event_handle), context)

    def query(self, event_handle: int) -> bool:
        """Return whether an event has come."""
        with self.lock:
            self._enter(captured=False)
            done = self.scheduler.poll(self._not_captured(event_handle))
            self.contexts.current()
            return done

    def _not_captured(self, handle: int) -> Op:
        event = self._get(handle, Event)
        last = self._recorded(event)
        if event.captured:
            self.violate("an event is waited for that a capture recorded", "CUDA_ERROR_CAPTURED_EVENT")
        return last

    def elapsed(self, start_handle: int, end_handle: int) -> float:
        """Return the seconds between two events that have come."""
        with self.lock:
            self._enter(captured=False)
            start, end = self._get(start_handle, Event), self._get(end_handle, Event)
            if not (start.timing and end.timing and start.recorded and end.recorded):
                self.violate("time between events that have none", "CUDA_ERROR_INVALID_HANDLE")
            if not (start.recorded.done and end.recorded.done):
                raise Failure("CUDA_ERROR_NOT_READY")
            return end.recorded.end - start.recorded.end

    def synchronise_stream(self, handle: int) -> None:
        with self.lock:
            context = self._enter(captured=False)
            stream = self._uncaptured(handle)
            if stream.queue:
                self.scheduler.wait(stream.queue[-1], context)
            self.clock.reach(stream.ready)

    def query_stream(self, handle: int) -> bool:
        with self.lock:
            self._enter(captured=False)
            stream = self._uncaptured(handle)
            done = not stream.queue or self.scheduler.poll(stream.queue[-1])
            self.contexts.current()
            return done

    def _uncaptured(self, handle: int) -> Stream:
        stream = self._get(handle, Stream)
        if stream.capture is not None:
            stream.capture.broken = True
            self.violate("a stream that is being captured is waited for", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        return stream

    def synchronise_context(self) -> None:
        with self.lock:
            context = self._enter()
            self._forbid_in_capture(everywhere=True)
            for stream in list(self.scheduler.streams.values()):
                if stream.queue:
                    self.scheduler.wait(stream.queue[-1], context)

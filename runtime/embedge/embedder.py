"""The in-process API, and the wiring of everything behind it: prepare, scheduler, lanes, completion."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedge import backends, outputs
from embedge.batch import Batch, Limits, layout
from embedge.bundle import Bundle
from embedge.completer import Completer
from embedge.config import RuntimeConfig
from embedge.cost import CostTable
from embedge.errors import BackendError, DeadlineExceeded, EmbedgeError, InvalidInput, NotFound, Unavailable
from embedge.inputs.items import ItemInput
from embedge.lane import Lane, Program
from embedge.manifest import Manifest
from embedge.request import Item, Options, Reply, Request, ask
from embedge.scheduler import Entry, Scheduler
from embedge.task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncEmbedder", "Embedder"]

log = logging.getLogger("embedge")

# Items prepared between two looks at the queue: large calls enter it piece by piece, so small ones are not held up.
_CHUNK = 256


class Embedder:
    """One model, open and warm. Safe to use from any number of threads; close it, or use it in a `with` block."""

    def __init__(self, bundle: Bundle, config: RuntimeConfig | None = None) -> None:
        """Open the lanes and warm them up. Raises BundleError, BackendError, Unavailable (no backend can run here)."""
        self.bundle = bundle
        self.config = config or RuntimeConfig()
        self._backend, self.backend_reason = backends.choose(self.config.backend)
        self.cost = CostTable()
        self._inputs = {
            name: ItemInput(bundle, name, max_text_bytes=self.config.max_text_bytes) for name in self.manifest.towers
        }
        lanes, self.threads = _slots(self.config)
        self._scheduler = Scheduler(
            self.cost,
            Limits(self.config.max_batch, self.config.token_budget),
            max_items=self.config.max_queue_items,
            max_seconds=self.config.max_queue_seconds,
            max_wait=self.config.max_wait_us / 1e6,
            lanes=lanes,
        )
        self._listeners: list[Callable[[bool], None]] = []
        self._changed = threading.Condition()  # owned by whoever reports or waits for a change of a lane
        self._closed = False
        self._preparers = ThreadPoolExecutor(self.config.prepare_threads, thread_name_prefix="embedge-prepare")
        self._completer = Completer(self._scheduler)
        self._lanes = [self._lane(number) for number in range(lanes)]
        self._start()

    @classmethod
    def open(cls, path: str | Path, *, config: RuntimeConfig | None = None) -> Embedder:
        """Open the bundle at `path`: a bundle directory, or a model directory, whose newest version is taken."""
        return cls(Bundle.load(path), config)

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.manifest.version

    @property
    def backend(self) -> str:
        """The backend that runs it, with its version."""
        return f"{self._backend.name} {self._backend.version()}"

    @property
    def serving(self) -> bool:
        """Whether a lane is alive and calls are admitted."""
        return not self._closed and any(lane.alive for lane in self._lanes)

    def embed(self, items: Sequence[Item], **options: Unpack[Options]) -> NDArray[np.generic]:
        """Return the vectors of the items, (n, dim), row i of item i.

        Options: tower, output, dim, dtype, prompt, truncate, timeout (seconds), priority; see `Request`.
        Raises the error of the first bad item (`run` returns the good ones beside the errors).
        """
        return self.run(ask(items, **options)).vectors

    def run(self, request: Request) -> Reply:
        """Embed and wait. Bad items are in the reply's `errors`; an error of the whole request is raised."""
        task = self._admit(request)
        try:
            self._prepare_all(task)
            return task.future.result(None if request.deadline is None else request.deadline - time.monotonic())
        except FutureTimeout as error:
            raise DeadlineExceeded("the deadline passed while the items were computed; allow more time") from error
        finally:
            task.future.cancel()  # without effect where the reply came; otherwise nobody waits for it any more

    def submit(self, request: Request) -> Future[Reply]:
        """Embed without waiting; items are prepared in worker threads. Cancelling the future drops what is queued.

        Raises what is wrong with the request as a whole; the rest comes through the future.
        """
        task = self._admit(request)
        self._prepare_later(task, 0)
        return task.future

    def drain(self, timeout: float | None = None) -> bool:
        """Admit nothing more and finish what was admitted. False if `timeout` seconds were not enough."""
        return self._scheduler.drain(timeout)

    def close(self) -> None:
        """Stop the lanes and free everything; whoever still waits is told. Call it once the work is done."""
        if self._closed:
            return
        self._closed = True
        self._preparers.shutdown(wait=False, cancel_futures=True)
        self._scheduler.stop()
        for lane in self._lanes:
            lane.join()
        self._completer.close()

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, listener: Callable[[bool], None]) -> None:
        """Tell `listener` now, and at every change, whether the model is serving. Called from lane threads."""
        self._listeners.append(listener)
        listener(self.serving)

    def stats(self) -> dict[str, float]:
        """Return what waits and runs now: items, predicted seconds, batches running, calls inside."""
        return self._scheduler.stats()

    def _admit(self, request: Request) -> Task:
        """Check the request as a whole and let it into the queue, with nothing prepared yet."""
        if isinstance(request.items, (str, bytes)):
            raise InvalidInput("items is one text; put it into a list")
        name, sizes = self._plan(request)
        inputs = self._inputs[name]
        inputs.check(request)
        task = Task(self.manifest, request, name, sizes)
        if not request.items:
            task.future.set_result(task.reply())
            return task
        self._scheduler.admit(task, len(request.items), inputs.estimate(request.items))
        task.future.add_done_callback(lambda future: self._abandon(task) if future.cancelled() else None)
        return task

    def _plan(self, request: Request) -> tuple[str, dict[str, int]]:
        """Return the tower that serves the request, and the size of each output it wants."""
        towers = self.manifest.towers
        name = next(iter(towers)) if request.tower is None and len(towers) == 1 else request.tower
        if name is None or name not in towers:
            asked = "a tower must be named" if name is None else f"tower {name!r} is unknown"
            raise NotFound(f"{asked}; {self.name!r} has: {', '.join(towers)}")
        known = towers[name].outputs
        wanted = request.outputs or (next(iter(known)),)
        if unknown := [output for output in wanted if output not in known]:
            raise NotFound(f"output {unknown[0]!r} is unknown; tower {name!r} has: {', '.join(known)}")
        return name, {o: outputs.check(known[o], request.dim, request.dtype, name=o) for o in wanted}

    def _abandon(self, task: Task) -> None:
        self._scheduler.drop(task, Unavailable("the caller left"))

    def _prepare_all(self, task: Task) -> None:
        for start in range(0, len(task.request.items), _CHUNK):
            self._prepare(task, start)

    def _prepare_later(self, task: Task, start: int) -> None:
        """Prepare chunk after chunk; each goes to the end of the line, so that calls take turns."""
        if start < len(task.request.items) and not task.future.done():
            self._preparers.submit(self._prepare, task, start).add_done_callback(
                lambda _: self._prepare_later(task, start + _CHUNK)
            )

    def _prepare(self, task: Task, start: int) -> None:
        began = time.monotonic()
        try:
            inputs = self._inputs[task.tower]
            rows = inputs.prepare(task.request.items[start : start + _CHUNK], task.request)
            entries = [
                Entry(task, start + place, row, inputs.length(row))
                for place, row in enumerate(rows)
                if not isinstance(row, EmbedgeError)
            ]
            errors = {start + place: row for place, row in enumerate(rows) if isinstance(row, EmbedgeError)}
        except Exception as error:  # a fault of ours, not of the caller's: the waiter is told, the log has the rest
            log.exception("preparing items %d and on failed", start)
            failure = error if isinstance(error, EmbedgeError) else BackendError("the items could not be prepared")
            task.fail(failure)
            self._scheduler.drop(task, failure)
            return
        task.prepared(time.monotonic() - began, entries)
        self._scheduler.push(task, entries, skipped=len(errors))
        task.fail_items(errors)

    def _lane(self, number: int) -> Lane:
        towers = self.manifest.towers
        return Lane(
            f"{self.name}-{number}",
            open_program=self._open_program,
            layouts={name: layout(self.manifest, tower) for name, tower in towers.items()},
            probes=[self._probe(name) for name in towers],
            take=self._scheduler.take,
            deliver=self._completer.deliver,
            changed=self._lane_changed,
        )

    def _open_program(self) -> Program:
        names = {step for tower in self.manifest.towers.values() for step in tower.steps}
        opened = {name: self._backend.open(self.bundle.graph(name), threads=self.threads) for name in names}
        return Program(self.manifest, opened)

    def _probe(self, tower: str) -> Batch:
        """Return a batch of two short items, with which a lane tests itself."""
        rows = self._inputs[tower].prepare(["a", "a longer probe"], Request(items=(), truncate=True))
        good = [row for row in rows if not isinstance(row, EmbedgeError)]
        return Batch(tower, good, [self._inputs[tower].length(row) for row in good])

    def _start(self) -> None:
        """Start the lanes and wait until all are alive; the first that cannot open ends it all."""
        for lane in self._lanes:
            lane.start()
        with self._changed:
            self._changed.wait_for(lambda: all(lane.alive or lane.error for lane in self._lanes))
        broken = next((lane.error for lane in self._lanes if lane.error is not None), None)
        if broken is not None:
            self.close()
            raise broken if isinstance(broken, EmbedgeError) else BackendError(f"the lane cannot run: {broken}")

    def _lane_changed(self, lane: Lane) -> None:
        """Hear from a lane's thread that it is alive, or broken and about to be rebuilt."""
        if any(each.alive for each in self._lanes):
            self._scheduler.refuse(None)
        else:
            self._scheduler.refuse(Unavailable("no lane is alive; one is being rebuilt, try again soon"), drop=True)
        for listener in self._listeners:
            listener(self.serving)
        with self._changed:
            self._changed.notify_all()


def _slots(config: RuntimeConfig) -> tuple[int, int]:
    """Return how many lanes, and how many compute threads each has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    lanes = config.lanes or 1
    return lanes, config.threads or max(1, cores // lanes)


class AsyncEmbedder:
    """The same model for asyncio: the same methods, awaited."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    @classmethod
    async def open(cls, path: str | Path, *, config: RuntimeConfig | None = None) -> AsyncEmbedder:
        """Open the bundle at `path` in a worker thread; see `Embedder.open`."""
        return cls(await asyncio.to_thread(Embedder.open, path, config=config))

    async def embed(self, items: Sequence[Item], **options: Unpack[Options]) -> NDArray[np.generic]:
        """Return the vectors of the items; see `Embedder.embed`."""
        return (await self.run(ask(items, **options))).vectors

    async def run(self, request: Request) -> Reply:
        """Embed; see `Embedder.run`. Cancelling the task drops what is queued."""
        left = None if request.deadline is None else request.deadline - time.monotonic()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self.embedder.submit(request)), left)
        except asyncio.TimeoutError as error:
            raise DeadlineExceeded("the deadline passed while the items were computed; allow more time") from error

    async def close(self) -> None:
        """Stop the lanes and free everything."""
        await asyncio.to_thread(self.embedder.close)

    async def __aenter__(self) -> AsyncEmbedder:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

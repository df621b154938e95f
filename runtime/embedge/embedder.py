"""The in-process API, and the wiring behind it: preparer, scheduler, lane pool, completer."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedge import outputs
from embedge.backends.cores import LaneSplit
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.bundle.manifest import Manifest
from embedge.calls.completer import Completer
from embedge.calls.pieces import Pieces
from embedge.calls.preparer import Preparer
from embedge.calls.sets import towers
from embedge.calls.task import Task
from embedge.cancel import CancelToken
from embedge.config import RuntimeConfig, checked
from embedge.errors import DeadlineExceeded, InvalidInput, NotFound, Unavailable
from embedge.inputs.items import ItemInput
from embedge.inputs.match import choose
from embedge.lanes import LanePool, LaneSetup
from embedge.lanes.listeners import Listeners
from embedge.request import Embedded, Item, Options, Reply, Request, as_request, ask
from embedge.scheduling.capacity import QueueCapacity
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.forming import Limits
from embedge.scheduling.scheduler import Scheduler
from embedge.scoring.labels import LabelStore
from embedge.scoring.methods import ScoringMethods
from embedge.split import join, split

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Embedder"]

log = logging.getLogger("embedge.embedder")


class Embedder(ScoringMethods):
    """One model, open and warm. Share it between threads; close it, or use it in a `with` block.

    Attributes:
        bundle: The bundle on disk.
        config: The settings.
        towers: The loaded towers, by name.
        backend_reason: Why this backend was chosen.
    """

    def __init__(
        self, bundle: Bundle | str | Path, config: RuntimeConfig | None = None, *, cancel: CancelToken | None = None
    ) -> None:
        """Open the lanes and warm them up.

        Args:
            bundle: A bundle, or the path of its directory; see `open`.
            config: The settings; None means the defaults.
            cancel: Ends the opening early, such as a build of plans that takes minutes.

        Raises:
            BundleError: The bundle is damaged or missing.
            Unavailable: No backend runs here, or a library that a modality needs is missing.
            NotFound: The settings name an unknown tower.
            InvalidInput: A setting is wrong.
            BackendError: The model fails its self-test.
        """
        self.bundle = _loaded(bundle)
        self.config = RuntimeConfig() if config is None else checked(config)
        self.towers = towers(self.manifest, self.config.towers)
        self._inputs = {name: ItemInput.of(self.bundle, name, self.config) for name in self.towers}
        probes = Probes(self.manifest, {name: each.probe() for name, each in self._inputs.items()})
        self._setup = LaneSetup(self.bundle, self.config, probes, cancel or CancelToken())
        self.backend_reason = self._setup.reason
        self._scheduler = Scheduler(
            self.costs,
            Limits(self.config.max_batch_size, self._setup.max_batch_tokens),
            QueueCapacity(self.config.max_queue_items, self.config.max_queue_bytes),
            max_seconds=self.config.max_queue_seconds,
            max_wait=self.config.max_wait_us / 1e6,
            lanes=self.split.lanes,
        )
        self._listeners = Listeners(self.name, lambda: self.serving)
        self._closed = self._draining = False
        self._process = os.getpid()
        self._labels = LabelStore(self.manifest, self.towers, self.run)
        self._preparer = Preparer(self._inputs, self._scheduler, threads=self.config.prepare_threads)
        self._pieces = Pieces(self.towers, self._admit, self._preparer)
        self._completer = Completer(self._scheduler)
        self._pool = LanePool(self._setup, self._scheduler, self._completer.deliver, self._lane_changed)
        try:
            self._pool.start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Embedder({self.name!r}, version {self.version!r}, towers {', '.join(self.towers)})"

    @classmethod
    def open(
        cls, path: str | Path, *, config: RuntimeConfig | None = None, cancel: CancelToken | None = None
    ) -> Embedder:
        """Open the bundle at `path`: a bundle's directory, or a model's directory with its newest version.

        Raises what `Embedder` raises.
        """
        return cls(Bundle.load(path), config, cancel=cancel)

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
        """The backend that runs the model, with its version."""
        return f"{self._setup.backend.name} {self._setup.backend.version()}"

    @property
    def device(self) -> str:
        """The name of the GPU or CPU that runs the model."""
        return self._setup.backend.device()

    @property
    def max_in_flight(self) -> int:
        """How many batches a lane has in flight."""
        return self._setup.backend.max_in_flight

    @property
    def cuda_graphs(self) -> int:
        """How many batch shapes a lane replays from CUDA graphs at most; 0 means none."""
        return self._setup.backend.cuda_graphs

    @property
    def serving(self) -> bool:
        """Whether a lane is alive and calls are admitted."""
        return not (self._closed or self._draining) and self._pool.alive

    @property
    def split(self) -> LaneSplit:
        """How many lanes run, how many compute threads each has, and why."""
        return self._setup.split

    @property
    def costs(self) -> Mapping[str, CostTable]:
        """The cost table of each loaded tower, measured and learned here. Towers that share a trunk share a table."""
        return self._setup.costs

    def embed(self, items: Sequence[Item], **options: Unpack[Options]) -> Embedded:
        """Embed items and return their vectors.

        Args:
            items: The items: strings, `Image`, `Audio`, arrays and so on, or mappings of named parts.
            **options: tower, output, dim, dtype, pool, prompt, truncate, timeout (seconds) and priority; see `Request`.

        Returns:
            `(n, dim)`, row i for item i, float32 unless `dtype` says otherwise. An output that isn't dense returns its
            result, such as `Sparse` or `MultiVectors`.

        Raises:
            EmbedgeError: The error of the first bad item. `run` returns the good items beside the errors.
        """
        return self.run(ask(items, **options)).first

    def run(self, request: Request | Sequence[Item], **options: Unpack[Options]) -> Reply:
        """Embed and wait for the whole reply.

        A call of any size works: one that would fill more than half of the queue is split into several.

        Args:
            request: A `Request`, or a list of items.
            **options: Options of `embed`, beside a list of items only.

        Returns:
            The outputs, and the errors of bad items by index.

        Raises:
            EmbedgeError: The whole request failed.
        """
        request = as_request(request, options)
        if request.tower is None and request.items:  # or every part of a long call would look at all items again
            request = replace(request, tower=self._tower(request))
        most = max(1, self.config.max_queue_items // 2)
        requests = split(request, lambda items: self._share(request, items), max_items=most, max_size=0.5)
        return join([self._run_one(each) for each in requests])

    def submit(self, request: Request | Sequence[Item], **options: Unpack[Options]) -> Future[Reply]:
        """Embed without waiting. Worker threads prepare the items.

        Args:
            request: A `Request`, or a list of items. It isn't split, so it has to fit into the queue.
            **options: Options of `embed`, beside a list of items only.

        Returns:
            A future of the reply. Cancel it to drop the work that is still queued.

        Raises:
            EmbedgeError: The request as a whole is wrong, or the queue is full. Later errors come with the future.
        """
        task = self._admit(as_request(request, options))
        try:
            self._pieces.begin(task, self._preparer.later)
        except BaseException:
            task.future.cancel()
            raise
        return task.future

    def drain(self, timeout: float | None = None) -> bool:
        """Refuse new calls and finish the admitted ones. Return False if `timeout` seconds were not enough."""
        self._draining = True
        self._listeners.notify()
        return self._scheduler.drain(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stop the lanes and free everything. Calls that still wait fail with `Unavailable`.

        Args:
            timeout: Seconds to wait for threads. A thread that hangs longer is abandoned; a lane is logged.
        """
        # A forked process doesn't own its parent's threads.
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        self._listeners.notify()
        self._scheduler.stop()
        self._preparer.close(timeout)
        if self._pool.join(timeout):
            self._completer.close()
        else:
            log.error("%s: a lane hangs and is left behind", self.name)

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` now and at every change with whether the model is serving. Lane threads call it."""
        self._listeners.add(listener)

    def stats(self) -> dict[str, float]:
        """Return the work that waits and runs now, and counters since the start; see `Scheduler.stats`."""
        return self._scheduler.stats()

    def _run_one(self, request: Request) -> Reply:
        """Embed a request that fits into the queue, and wait."""
        task = self._admit(request)
        try:
            self._pieces.begin(task, self._preparer.now)
            return task.future.result(None if request.deadline is None else request.deadline - time.monotonic())
        except FutureTimeout as error:
            raise DeadlineExceeded("the deadline passed while the items were computed; allow more time") from error
        finally:
            task.future.cancel()  # drops the work if nobody waits for it any more; a finished future ignores it

    def _admit(self, request: Request) -> Task:
        """Check the request as a whole and queue it, with nothing prepared yet."""
        if os.getpid() != self._process:
            raise Unavailable("this embedder was opened in another process, and threads do not fork; open one here")
        name, sizes = self._plan(request)
        self._inputs[name].check(request)
        task = Task(self.manifest, request, name, sizes, trunk=self._setup.trunks[name])
        if not request.items:
            task.future.set_result(task.reply())
            return task
        self._scheduler.admit(task, len(request.items), *self._inputs[name].estimate(request.items))
        task.future.add_done_callback(lambda future: self._abandon(task) if future.cancelled() else None)
        return task

    def _share(self, request: Request, items: Sequence[Item]) -> float:
        """Estimate the share of the queue that these items take, in bytes or in pieces of sets."""
        name = self._tower(request)
        size = self._inputs[name].estimate(items)[1] / self.config.max_queue_bytes
        return max(size, self._pieces.count(name, items) / self.config.max_queue_items)

    def _plan(self, request: Request) -> tuple[str, dict[str, int]]:
        """Return the request's tower, and the size of each output that it asks for."""
        name = self._tower(request)
        known = self.towers[name].outputs
        wanted = request.outputs or (next(iter(known)),)
        if unknown := [output for output in wanted if output not in known]:
            raise NotFound(f"output {unknown[0]!r} is unknown; tower {name!r} has: {', '.join(known)}")
        return name, {o: outputs.check(known[o], request.dim, request.dtype, request.pool, name=o) for o in wanted}

    def _tower(self, request: Request) -> str:
        name = choose(request.items, self.towers) if request.tower is None else request.tower
        if name not in self.towers:
            if name in self.manifest.towers:
                raise NotFound(f"tower {name!r} is not loaded here; of {self.name!r} are: {', '.join(self.towers)}")
            raise NotFound(f"tower {name!r} is unknown; {self.name!r} has: {', '.join(self.towers)}")
        return name

    def _abandon(self, task: Task) -> None:
        self._scheduler.drop(task, Unavailable("the caller left"))

    def _lane_changed(self) -> None:
        """React, on a lane's thread, to a lane that came alive, or broke and is about to be rebuilt."""
        with self._listeners.lock:
            if self._pool.alive:
                self._scheduler.refuse(None)
            else:
                rest = "all are given up; restart, the log has the cause"
                hope = "one is being rebuilt, try again soon"
                why = Unavailable(f"no lane is alive; {rest if self._pool.given_up else hope}")
                self._scheduler.refuse(why, drop=True)
            self._listeners.notify()


def _loaded(bundle: Bundle | str | Path) -> Bundle:
    if isinstance(bundle, (str, Path)):
        return Bundle.load(bundle)
    if not isinstance(bundle, Bundle):
        raise InvalidInput(f"a bundle or the path of its directory is needed, not {type(bundle).__name__}")
    return bundle

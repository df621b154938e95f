"""The in-process API, and the wiring of everything behind it: prepare, scheduler, lanes, completion."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
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
from embedge.errors import DeadlineExceeded, NotFound, Unavailable
from embedge.inputs.items import ItemInput
from embedge.inputs.match import choose
from embedge.lanes import LanePool
from embedge.outputs import Scores
from embedge.request import Embedded, Item, ItemOptions, Options, Reply, Request, ScoreOptions, ask
from embedge.scheduling.capacity import QueueCapacity
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.forming import Limits
from embedge.scheduling.scheduler import Scheduler
from embedge.scoring import pairs
from embedge.scoring.classifier import Classifier
from embedge.scoring.labels import Labels, LabelStore
from embedge.scoring.pairs import Scored, Side
from embedge.split import join, split

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Embedder"]

log = logging.getLogger("embedge.embedder")


class Embedder:
    """One model, open and warm. Safe to use from any number of threads; close it, or use it in a `with` block."""

    def __init__(
        self, bundle: Bundle, config: RuntimeConfig | None = None, *, cancel: CancelToken | None = None
    ) -> None:
        """Open the lanes and warm them up. cancel: ends a build of plans, which takes minutes.

        Raises BundleError, BackendError, Unavailable (no backend, or not what a modality needs), NotFound (no tower),
        InvalidInput (a setting).
        """
        self.bundle = bundle
        self.config = RuntimeConfig() if config is None else checked(config)
        self.towers = towers(self.manifest, self.config.towers)
        self._inputs = {name: ItemInput.of(bundle, name, self.config) for name in self.towers}
        probes = Probes(self.manifest, {name: each.probe() for name, each in self._inputs.items()})
        self._crew = LanePool(bundle, self.config, probes, cancel or CancelToken())
        self.backend_reason = self._crew.backend_reason
        self._scheduler = Scheduler(
            self.costs,
            Limits(self.config.max_batch_size, self._crew.max_batch_tokens),
            QueueCapacity(self.config.max_queue_items, self.config.max_queue_bytes),
            max_seconds=self.config.max_queue_seconds,
            max_wait=self.config.max_wait_us / 1e6,
            lanes=self.slots.lanes,
        )
        # Held by a lane's thread while it tells of a change, so that the last word told is the true one. Reentrant, for
        # a listener that adds another.
        self._telling = threading.RLock()
        self._listeners: list[Callable[[bool], None]] = []
        self._closed = self._draining = False
        self._process = os.getpid()
        self._labels = LabelStore(self.manifest, self.towers, self.run)
        self._preparer = Preparer(self._inputs, self._scheduler, threads=self.config.prepare_threads)
        self._pieces = Pieces(self.towers, self._admit, self._preparer)
        self._completer = Completer(self._scheduler)
        try:
            self._crew.start(self._scheduler, self._completer.deliver, self._lane_changed)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"Embedder({self.name!r}, version {self.version!r}, towers {', '.join(self.towers)})"

    @classmethod
    def open(
        cls, path: str | Path, *, config: RuntimeConfig | None = None, cancel: CancelToken | None = None
    ) -> Embedder:
        """Open the bundle at `path`: a bundle directory, or a model directory, whose newest version is taken."""
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
        """The backend that runs it, with its version."""
        return self._crew.backend

    @property
    def device(self) -> str:
        """The name of the GPU or processor that it runs on."""
        return self._crew.device

    @property
    def max_in_flight(self) -> int:
        """How many batches a lane has in flight."""
        return self._crew.max_in_flight

    @property
    def cuda_graphs(self) -> int:
        """How many shapes of batches a lane replays from captured graphs at most; 0: none."""
        return self._crew.cuda_graphs

    @property
    def serving(self) -> bool:
        """Whether a lane is alive and calls are admitted."""
        return not (self._closed or self._draining) and self._crew.alive

    @property
    def slots(self) -> LaneSplit:
        """How many lanes run, how many compute threads each has, and why."""
        return self._crew.slots

    @property
    def costs(self) -> Mapping[str, CostTable]:
        """What batches of each loaded tower cost here, as measured and learned; towers of one trunk share a table."""
        return self._crew.costs

    def embed(self, items: Sequence[Item], **options: Unpack[Options]) -> Embedded:
        """Return the vectors of the items, (n, dim), row i of item i; of an output that is not dense, its result.

        Options: tower, output, dim, dtype, pool, prompt, truncate, timeout (seconds), priority; see `Request`.
        Raises the error of the first bad item (`run` returns the good ones beside the errors).
        """
        return self.run(ask(items, **options)).first

    def run(self, request: Request) -> Reply:
        """Embed and wait. Bad items are in the reply's `errors`; an error of the whole request is raised.

        Any number of items will do: more than half of what the queue holds, in items or bytes, go as several requests.
        """
        most = max(1, self.config.max_queue_items // 2)
        requests = split(request, lambda items: self._share(request, items), max_items=most, max_size=0.5)
        return join([self._run(each) for each in requests])

    def _run(self, request: Request) -> Reply:
        task = self._admit(request)
        try:
            self._pieces.begin(task, self._preparer.now)
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
        try:
            self._pieces.begin(task, self._preparer.later)
        except BaseException:
            task.future.cancel()
            raise
        return task.future

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the bundle's label sets."""
        return tuple(self.manifest.label_sets)

    def classify(
        self,
        items: Sequence[Item],
        labels: Labels,
        *,
        templates: Sequence[str] = ("{}",),
        top: int | None = None,
        **options: Unpack[ItemOptions],
    ) -> Scores:
        """Return the scores of labels for the items, without training: (n, labels), or the `top` best of each item.

        labels: the name of one of the bundle's label sets, a `LabelSet`, or a list of texts; each is then embedded in
        every one of `templates`, where `{}` stands for it. Labels are embedded once, and kept. Options: tower, prompt,
        truncate, timeout, priority, for the items. Raises the error of the first bad item.
        """
        request = ask(items, **options)
        tower = self._tower(request)
        classifier = self._labels.ready(labels, tower, templates=templates, top=top, deadline=request.deadline)
        return classifier.result(self.run(classifier.asked(request)))

    def classifier(
        self, request: Request, labels: Labels, *, templates: Sequence[str] = ("{}",), top: int | None = None
    ) -> Future[Classifier]:
        """Return the labels for the request's items, ready once they are embedded; see `classify`. Does not wait."""
        return self._labels.later(labels, self._tower(request), templates=templates, top=top)

    def score(
        self, queries: Side | Sequence[Side], documents: Sequence[Side], **options: Unpack[ScoreOptions]
    ) -> Scored:
        """Return the score of each pair, (n,) float32; of a tower with several labels, `Scores` (n, labels).

        queries: one for all documents, or a list with one for each. Options: tower, output, prompt, truncate, timeout,
        priority; where no output is named, the tower's first of scores. Raises the error of the first bad pair.
        """
        return pairs.scored(self.run(self.to_score(ask(pairs.pairs(queries, documents), **options))))

    def to_score(self, request: Request) -> Request:
        """Return a request for pairs, items with the parts `query` and `document`, as one to `run` or `submit`."""
        name = pairs.choose_scorer(self.towers) if request.tower is None else self._tower(request)
        return pairs.to_score(request, name, self.towers[name])

    def drain(self, timeout: float | None = None) -> bool:
        """Admit nothing more and finish what was admitted. False if `timeout` seconds were not enough."""
        self._draining = True
        self._tell()
        return self._scheduler.drain(timeout)

    def close(self, timeout: float | None = None) -> None:
        """Stop the lanes and free everything; whoever still waits is told. Call it once the work is done.

        Whoever hangs is left behind after `timeout` seconds, a lane with a word in the log.
        """
        # The threads of a fork's parent are not the fork's to wait for.
        if self._closed or os.getpid() != self._process:
            return
        self._closed = True
        self._tell()
        self._scheduler.stop()
        self._preparer.close(timeout)
        if self._crew.join(timeout):
            self._completer.close()
        else:
            log.error("%s: a lane hangs and is left behind", self.name)

    def __enter__(self) -> Embedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def watch(self, listener: Callable[[bool], None]) -> None:
        """Tell `listener` now, and at every change, whether the model is serving. Called from lane threads."""
        with self._telling:
            self._listeners.append(listener)
            listener(self.serving)

    def stats(self) -> dict[str, float]:
        """Return what waits and runs now, and what was counted since the start; see `Scheduler.stats`."""
        return self._scheduler.stats()

    def _admit(self, request: Request) -> Task:
        """Check the request as a whole and let it into the queue, with nothing prepared yet."""
        if os.getpid() != self._process:
            raise Unavailable("this embedder was opened in another process, and threads do not fork; open one here")
        name, sizes = self._plan(request)
        self._inputs[name].check(request)
        task = Task(self.manifest, request, name, sizes, trunk=self._crew.trunks[name])
        if not request.items:
            task.future.set_result(task.reply())
            return task
        self._scheduler.admit(task, len(request.items), *self._inputs[name].estimate(request.items))
        task.future.add_done_callback(lambda future: self._abandon(task) if future.cancelled() else None)
        return task

    def _share(self, request: Request, items: Sequence[Item]) -> float:
        """Return about which share of the queue these items of the request take, in bytes or in pieces of sets."""
        name = self._tower(request)
        size = self._inputs[name].estimate(items)[1] / self.config.max_queue_bytes
        return max(size, self._pieces.count(name, items) / self.config.max_queue_items)

    def _plan(self, request: Request) -> tuple[str, dict[str, int]]:
        """Return the tower that serves the request, and the size of each output it wants."""
        name = self._tower(request)
        known = self.towers[name].outputs
        wanted = request.outputs or (next(iter(known)),)
        if unknown := [output for output in wanted if output not in known]:
            raise NotFound(f"output {unknown[0]!r} is unknown; tower {name!r} has: {', '.join(known)}")
        return name, {o: outputs.check(known[o], request.dim, request.dtype, request.pool, name=o) for o in wanted}

    def _tower(self, request: Request) -> str:
        """Return the name of the tower that serves the request."""
        name = choose(request.items, self.towers) if request.tower is None else request.tower
        if name not in self.towers:
            if name in self.manifest.towers:
                raise NotFound(f"tower {name!r} is not loaded here; of {self.name!r} are: {', '.join(self.towers)}")
            raise NotFound(f"tower {name!r} is unknown; {self.name!r} has: {', '.join(self.towers)}")
        return name

    def _abandon(self, task: Task) -> None:
        self._scheduler.drop(task, Unavailable("the caller left"))

    def _lane_changed(self) -> None:
        """Hear from a lane's thread that a lane came alive, or broke and is about to be rebuilt."""
        with self._telling:
            if self._crew.alive:
                self._scheduler.refuse(None)
            else:
                rest = "all are given up; restart, the log has the cause"
                hope = "one is being rebuilt, try again soon"
                why = Unavailable(f"no lane is alive; {rest if self._crew.given_up else hope}")
                self._scheduler.refuse(why, drop=True)
            self._tell()

    def _tell(self) -> None:
        """Tell every listener how things are; what a listener does wrong stays with it."""
        with self._telling:
            for listener in list(self._listeners):
                try:
                    listener(self.serving)
                except Exception:  # a listener is somebody else's code
                    log.exception("a listener of %s failed", self.name)

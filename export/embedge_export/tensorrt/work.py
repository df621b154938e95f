"""One request, graph after graph: build the plan, check its tensors, prove it, write it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from embedge import atomic
from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.engine import Engine
from embedge.backends.tensorrt.plans.child import Parent
from embedge.backends.tensorrt.plans.messages import (
    BuildJob,
    BuildRequest,
    Built,
    Failed,
    Log,
    Message,
    Progress,
    Refused,
)
from embedge.backends.tensorrt.plans.timing import TimingCache
from embedge.bundle import Bundle
from embedge.cuda import CudaError, Driver, choose
from embedge.errors import EmbedgeError, Unavailable
from embedge_export.tensorrt.builder import Order, build
from embedge_export.tensorrt.facts import check_tensors, precision_share
from embedge_export.tensorrt.failure import PlanError, cancelled
from embedge_export.tensorrt.gate import Miss, prove
from embedge_export.tensorrt.reference import OnnxReference

__all__ = ["BuildWork"]


class BuildWork:
    """Builds all plans of a request.

    Attributes:
        done: Whether every graph was reported.
    """

    def __init__(self, request: BuildRequest, parent: Parent) -> None:
        self.done = False
        self._request = request
        self._parent = parent
        self._now = next(iter(request.jobs), "")

    def run(self) -> None:
        """Build all plans and report each. Call this in the thread that builds."""
        forward = _ForwardToSupervisor(self)
        logging.getLogger("embedge.tensorrt").addHandler(forward)
        try:
            with self._report_rest():
                self._build_all()
        finally:
            logging.getLogger("embedge.tensorrt").removeHandler(forward)
        self.done = True

    def log(self, level: int, text: str) -> None:
        """Send a line of TensorRT's log.

        Args:
            level: A level of `logging`.
            text: The line.
        """
        name: Any = "error" if level >= logging.ERROR else "warning"
        self._parent.send(Log(level=name, text=text, graph=self._now))

    def _build_all(self) -> None:
        bundle = Bundle.load(self._request.bundle)
        driver = choose(self._request.config.cuda, self._request.config.gpu)
        driver.enter()
        try:
            reference = OnnxReference(bundle, self._request.config)
            for graph, job in self._request.jobs.items():
                self._now = graph
                self._parent.send(self._build(bundle, graph, job, driver, reference))
            reference.close()
        finally:
            driver.leave()

    @contextmanager
    def _report_rest(self) -> Iterator[None]:
        """Turn an error that stops all builds into a message for each graph not reported yet."""
        try:
            yield
        except (EmbedgeError, PlanError, CudaError) as error:
            graphs = list(self._request.jobs)
            for graph in graphs[graphs.index(self._now) :]:
                self._parent.send(_failed(graph, error))

    def _build(self, bundle: Bundle, graph: str, job: BuildJob, driver: Driver, reference: OnnxReference) -> Message:
        start = time.monotonic()
        try:
            plan = self._plan(bundle, graph, job)
            seconds = time.monotonic() - start
            engine = Engine(graph, bundle.manifest.graphs[graph], plan)
            check_tensors(graph, bundle.manifest.graphs[graph], engine.raw)
            share = precision_share(graph, bundle.manifest.graphs[graph], engine.raw)
            self._progress(graph, "proving", 0)
            cuda_graphs = self._request.config.cuda_graphs
            figures = prove(bundle, graph, engine, driver, reference, cuda_graphs=cuda_graphs)
            self._progress(graph, "proving", 1)
            figures |= {} if share is None else {"precision_share": share}
            file = _write(graph, job, plan)
        except Miss as miss:
            return Refused(
                graph=graph, reason=str(miss), seconds=time.monotonic() - start, figures=_finite(miss.figures)
            )
        except (EmbedgeError, PlanError, MemoryError, CudaError) as error:
            if isinstance(error, CudaError) and error.fatal:
                raise  # the context is broken: this process can prove nothing more
            return _failed(graph, error)
        digest = hashlib.sha256(plan).hexdigest()
        return Built(graph=graph, file=file, sha256=digest, nbytes=len(plan), seconds=seconds, figures=_finite(figures))

    def _plan(self, bundle: Bundle, graph: str, job: BuildJob) -> bytes:
        """Build one graph's plan. Raises PlanError, Unavailable."""
        if self._parent.cancelled.is_set():
            raise cancelled(graph)
        if (here := library.version()) != job.key.tensorrt:
            raise Unavailable(f"a plan for TensorRT {job.key.tensorrt} was requested, and this process has {here}")
        order = Order(
            graph=graph,
            path=bundle.graph(graph),
            profiles=job.key.profiles,
            level=job.key.flags.level,
            workspace=job.key.flags.workspace,
            timing=TimingCache(Path(self._request.timing), job.key) if self._request.timing else None,
        )

        def on_progress(phase: str, parent: str, done: int, total: int) -> None:
            self._parent.send(Progress(graph=graph, phase=phase, parent=parent, done=done, total=total))

        return build(order, on_progress, self._parent.cancelled)

    def _progress(self, graph: str, phase: str, done: int) -> None:
        self._parent.send(Progress(graph=graph, phase=phase, done=done, total=1))


class _ForwardToSupervisor(logging.Handler):
    """Sends TensorRT's log to the supervisor."""

    def __init__(self, work: BuildWork) -> None:
        super().__init__(logging.WARNING)
        self._work = work

    def emit(self, record: logging.LogRecord) -> None:
        self._work.log(record.levelno, record.getMessage())


def _failed(graph: str, error: Exception) -> Failed:
    """Return the message for a graph whose build failed."""
    if isinstance(error, PlanError):
        return error.message(graph)
    if isinstance(error, MemoryError):
        return Failed(graph=graph, kind="memory", text="this process ran out of memory while it built the plan")
    if isinstance(error, CudaError) and error.code == "CUDA_ERROR_OUT_OF_MEMORY":
        return Failed(graph=graph, kind="memory", text=f"the GPU has no memory left to prove the plan: {error}")
    return Failed(graph=graph, kind="unavailable" if isinstance(error, Unavailable) else "other", text=str(error))


def _finite(figures: dict[str, float]) -> dict[str, float]:
    """Return the metrics that JSON can hold."""
    return {name: value for name, value in figures.items() if abs(value) < float("inf")}


def _write(graph: str, job: BuildJob, plan: bytes) -> str:
    """Write the plan durably to the first of the job's files that works, and return that. Raises PlanError."""
    errors = []
    for file in job.files:
        try:
            atomic.write(Path(file), plan)
        except OSError as error:
            errors.append(f"{file}: {error.strerror}")
        else:
            return file
    raise PlanError("disk", f"the plan of graph {graph!r}, {len(plan):,} bytes, cannot be written: {'; '.join(errors)}")

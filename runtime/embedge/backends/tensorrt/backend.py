"""The TensorRT backend: finds or builds a model's plans, and opens lanes on them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from embedge.backends.base import BackendModel, DeviceSlot
from embedge.backends.cores import LaneSplit
from embedge.backends.gpu import policy
from embedge.backends.gpu.slot import StreamSlot
from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.engine import Engine, IncompatiblePlan
from embedge.backends.tensorrt.executable import Scratch, TensorRTExecutable
from embedge.backends.tensorrt.keys import keys
from embedge.backends.tensorrt.plans.build import Builder, find
from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.backends.tensorrt.plans.progress import LogProgress
from embedge.backends.tensorrt.plans.record import Plan
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.batches.shapes import Shape
from embedge.config import RuntimeConfig
from embedge.cuda import CudaError, Driver, SharedContext, Stream, choose
from embedge.errors import BackendError, Unavailable

__all__ = ["TensorRTBackend"]

log = logging.getLogger("embedge.tensorrt")

_BUFFERS = 2
_STAGING = 64 << 20  # bytes; roughly what a lane's batches take on the GPU on their way in and out


class TensorRTBackend:
    """Runs graphs as TensorRT plans. Lanes share the engines; each has its own stream and execution contexts."""

    name = "tensorrt"
    shares = False
    length_multiple = policy.LENGTH_MULTIPLE
    hang_seconds = policy.HANG_SECONDS
    max_batch_tokens = policy.MAX_BATCH_TOKENS

    def __init__(self, config: RuntimeConfig) -> None:
        self.max_in_flight = config.batches_in_flight or _BUFFERS
        self.cuda_graphs = 0
        self._config = config
        self._driver: Driver | None = None
        self._model: BackendModel | None = None
        self._plans: dict[str, Plan] = {}
        self._engines: dict[str, Engine] = {}
        self._scratch = 0  # bytes; the largest that a context of any engine needs
        self._largest: dict[str, list[dict[str, Shape]]] = {}  # input shapes of the largest batches, by graph
        # Guards the engines: each lane opens its executables in its own thread. Held while a plan is deserialized.
        self._lock = threading.Lock()
        self._lost = threading.Event()  # set by any thread once the context broke: the engines are void then

    def missing(self) -> str:
        """Return why TensorRT can't run here and what to do about it; an empty string if it can."""
        if reason := library.missing():
            return reason
        try:
            self._gpu()
        except Unavailable as error:
            return error.message
        return ""

    def version(self) -> str:
        """Return the versions of TensorRT and of the CUDA library."""
        return f"TensorRT {library.version()}, {self._gpu().version()}"

    def device(self) -> str:
        """Return the GPU's name."""
        return self._gpu().gpu().name

    def keys(self, model: BackendModel) -> dict[str, PlanKey]:
        """Return the key of the plan that each graph needs on this GPU.

        Raises:
            BackendError: TensorRT can't run a graph.
            Unavailable: TensorRT or the GPU can't be used.
        """
        return keys(model, self._gpu().gpu())

    def load(self, model: BackendModel) -> None:
        """Find or build the plans, and deserialize them.

        Raises:
            BackendError: A graph has no plan, or its plan needs more memory than the settings allow.
            Unavailable: The GPU can't be used, or plans are missing and may not be built.
        """
        self._model = model
        wanted = self.keys(model)
        store = PlanStore()
        self._plans = find(store, model.bundle, wanted, model.config)
        if lacking := [graph for graph in wanted if graph not in self._plans]:
            self._plans = self._build(store, wanted, lacking)
        for graph, plan in self._plans.items():
            if plan.record.refused:
                raise BackendError(f"graph {graph!r}: it has no plan for this GPU: {plan.record.refused}")
        driver = self._gpu()
        try:
            driver.enter()
            for graph in wanted:
                self._load_engine(store, graph, wanted[graph])
        except CudaError as error:
            raise Unavailable(f"the GPU cannot be used: {error}") from error
        finally:
            driver.leave()
        self._check_scratch()
        proven = any(plan.record.captured for plan in self._plans.values())
        self.cuda_graphs = self._config.cuda_graphs if driver.captures and proven else 0
        self._warn_of_missing_graphs()
        # Kept apart from the engines, which a broken context voids: one lane may open while another reloads them.
        self._scratch = max(engine.scratch for engine in self._engines.values())
        self._largest = {
            name: [{each: bounds.most for each, bounds in profile.items()} for profile in engine.profiles]
            for name, engine in self._engines.items()
        }

    def candidates(self) -> list[LaneSplit]:
        """Return the lane counts worth measuring; each lane needs scratch and staging memory."""
        return policy.lane_splits(self._gpu(), self._config, self._scratch + _STAGING)

    def slot(self, *, threads: int, wake: Callable[[], None]) -> DeviceSlot:
        """Return a lane's slot. Called in the lane's thread.

        Args:
            threads: Ignored: a GPU has none.
            wake: Called from any thread if the context breaks.

        Raises:
            CudaError: The GPU can't be used.
        """
        driver = self._gpu()
        scratch = Scratch(driver, self._scratch)

        def lost() -> None:
            self._lost.set()
            wake()

        def open_executable(name: str, path: Path, stream: Stream) -> TensorRTExecutable:
            return TensorRTExecutable(self._engine(name), scratch, capturable=self._plans[name].record.captured)

        return StreamSlot(
            driver,
            SharedContext.of(driver),
            lost,
            open_executable,
            buffers=self.max_in_flight,
            cuda_graphs=self._config.cuda_graphs,
            largest=self._largest,
        )

    def close(self) -> None:
        """Let go of the engines, once all lanes are closed."""
        with self._lock:
            self._engines.clear()

    def _gpu(self) -> Driver:
        if self._driver is None:
            self._driver = choose(self._config.cuda, self._config.gpu)
        return self._driver

    def _loaded(self) -> BackendModel:
        if self._model is None:
            raise RuntimeError("load was not called")
        return self._model

    def _build(
        self, store: PlanStore, wanted: dict[str, PlanKey], lacking: list[str], *, force: bool = False
    ) -> dict[str, Plan]:
        """Build plans in a child process; this takes minutes."""
        model = self._loaded()
        what = f"the plans of {', '.join(lacking)}"
        if not model.config.build_plans:
            raise Unavailable(
                f"{what} are missing for this GPU, and build_plans is off; build them with the server's --config: "
                f"embedge build {model.bundle.path}"
            )
        log.info("building %s for %s; this takes minutes, once", what, self.device())
        builder = Builder(store, LogProgress())
        with model.cancel.on_cancel(builder.cancel):
            return builder.build(model.bundle, wanted, model.config, force=force)

    def _check_scratch(self) -> None:
        """Raise BackendError if a plan needs more scratch memory than the settings allow a lane."""
        allowed = self._config.scratch_bytes
        for graph, engine in self._engines.items():
            if allowed is not None and engine.scratch > allowed:
                raise BackendError(
                    f"graph {graph!r}: its plan needs {engine.scratch:,} bytes, and scratch_bytes allows {allowed:,}; "
                    "raise it, or lower max_batch_size or max_batch_tokens"
                )

    def _warn_of_missing_graphs(self) -> None:
        """Warn of plans that run without CUDA graphs although the GPU and the settings allow them."""
        for graph, plan in self._plans.items():
            if self._config.cuda_graphs and self._gpu().captures and not plan.record.captured:
                off = "CUDA graphs are off: the gate proved none"
                log.warning(
                    "graph %r: %s; to try again: embedge build %s --force", graph, off, self._loaded().bundle.path
                )

    def _load_engine(self, store: PlanStore, graph: str, key: PlanKey) -> None:
        """Deserialize a plan; rebuild it, with a warning, if it doesn't fit this TensorRT."""
        try:
            self._engine(graph)
        except IncompatiblePlan as error:
            log.warning("%s; rebuilding it", error.message)
            self._plans |= self._build(store, {graph: key}, [graph], force=True)
            if refused := self._plans[graph].record.refused:
                raise BackendError(f"graph {graph!r}: it has no plan for this GPU: {refused}") from error
            self._engine(graph)

    def _engine(self, name: str) -> Engine:
        """Return a graph's engine, shared by all lanes; a new one after the context was reset."""
        with self._lock:
            if self._lost.is_set():
                self._engines.clear()
                self._lost.clear()
            if name not in self._engines:
                graph = self._loaded().bundle.manifest.graphs[name]
                self._engines[name] = Engine(name, graph, self._plans[name].read())
            return self._engines[name]

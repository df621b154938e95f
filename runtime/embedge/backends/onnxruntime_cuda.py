"""ONNX Runtime on a GPU: for machines without TensorRT, and for graphs that TensorRT can't run.

A session runs on its lane's stream, on memory that the lane binds, and doesn't synchronize at the end of a run. So it
fits into the lane's pipeline like any other executable.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedge import cuda
from embedge.backends.base import Arrays, BackendModel, PendingArrays, Session
from embedge.backends.cores import LaneSplit
from embedge.backends.gpu import policy
from embedge.backends.gpu.executable import Bindings, Executable
from embedge.backends.gpu.slot import StreamSlot
from embedge.backends.gpu.stream import LaneStream
from embedge.batches.shapes import Shape, resolve, symbols
from embedge.bundle.manifest import Graph
from embedge.config import RuntimeConfig
from embedge.cuda import CudaError, Driver, Event, SharedContext, Stream
from embedge.errors import BackendError, BundleError, Unavailable

__all__ = ["OnnxRuntimeCudaBackend"]

log = logging.getLogger("embedge.backends")

_PROVIDER = "CUDAExecutionProvider"
_INSTALL = "pip install 'embedge[gpu]' in place of onnxruntime, whose module has the same name"
_LIBRARIES = "pip install 'onnxruntime-gpu[cuda,cudnn]', or install the CUDA and cuDNN 9 that its release is made for"
_WORKING = 512 << 20  # bytes of GPU memory that a lane needs besides its weights, unless the settings set it


class OnnxRuntimeCudaBackend:
    """Opens graphs with ONNX Runtime's CUDA provider. Every lane has its own copy of the weights."""

    name = "onnxruntime-cuda"
    shares = False
    length_multiple = policy.LENGTH_MULTIPLE
    hang_seconds = policy.HANG_SECONDS
    max_batch_tokens = policy.MAX_BATCH_TOKENS
    cuda_graphs = 0

    def __init__(self, config: RuntimeConfig) -> None:
        self.max_in_flight = config.batches_in_flight or 2
        self._config = config
        self._model: BackendModel | None = None
        self._largest: dict[str, list[Mapping[str, Shape]]] = {}

    def missing(self) -> str:
        """Return why ONNX Runtime can't use the GPU and what to do about it; an empty string if it can."""
        try:
            import onnxruntime
        except ImportError:
            return f"onnxruntime-gpu is not installed; {_INSTALL}"
        if _PROVIDER not in onnxruntime.get_available_providers():
            return f"this onnxruntime {onnxruntime.__version__} is made without CUDA; {_INSTALL}"
        try:
            self._driver()
        except Unavailable as error:
            return error.message
        return ""

    def version(self) -> str:
        """Return the versions of ONNX Runtime and of the CUDA library."""
        import onnxruntime

        return f"{onnxruntime.__version__}, {self._driver().version()}"

    def device(self) -> str:
        """Return the GPU's name."""
        return self._driver().gpu().name

    def load(self, model: BackendModel) -> None:
        """Open the smallest graph once: only a session shows whether the provider works.

        Raises:
            Unavailable: ONNX Runtime can't load its CUDA provider.
            BundleError: ONNX Runtime can't load the graph.
        """
        import onnxruntime as ort

        if hasattr(ort, "preload_dlls"):  # since 1.21: loads CUDA and cuDNN from the installed packages
            with contextlib.redirect_stdout(io.StringIO()):  # it prints the libraries it can't find
                ort.preload_dlls(directory="")
        smallest = min((model.bundle.graph(name) for name in model.graphs), key=lambda path: path.stat().st_size)
        _open(smallest, {"device_id": self._config.gpu})
        self._model = model
        self._largest = {
            graph: [{name: each.most for name, each in profile.items()} for profile in found]
            for graph, found in policy.batch_profiles(model).items()
        }

    def candidates(self) -> list[LaneSplit]:
        """Return the lane counts worth measuring; each lane needs its own weights and scratch memory."""
        if self._model is None:
            return [LaneSplit(1, 1)]
        weights = sum(self._model.bundle.graph(name).stat().st_size for name in self._model.graphs)
        return policy.lane_splits(self._driver(), self._config, weights + (self._config.scratch_bytes or _WORKING))

    def slot(self, *, threads: int, wake: Callable[[], None]) -> StreamSlot:
        """Return a slot with a stream. Called in the lane's thread.

        Args:
            threads: Ignored: a GPU has none.
            wake: Called from any thread if the context breaks.

        Raises:
            BackendError: `load` was not called.
            CudaError: The GPU can't be used.
        """
        if self._model is None:
            raise BackendError("no model was loaded before a lane was opened")
        return _CudaSlot(self._driver(), wake, self._model, buffers=self.max_in_flight, largest=self._largest)

    def close(self) -> None:
        """Do nothing: lanes share no memory."""

    def _driver(self) -> Driver:
        return cuda.choose(self._config.cuda, self._config.gpu)


class _CudaSlot(StreamSlot):
    """Opens sessions on the lane's stream. A graph whose output shapes depend on the data runs unbound."""

    def __init__(
        self,
        driver: Driver,
        wake: Callable[[], None],
        model: BackendModel,
        *,
        buffers: int,
        largest: Mapping[str, Sequence[Mapping[str, Shape]]],
    ) -> None:
        super().__init__(
            driver, SharedContext.of(driver), wake, self._open_bound, buffers=buffers, cuda_graphs=0, largest=largest
        )
        self._graphs = model.bundle.manifest.graphs
        self._config = model.config

    def open(self, name: str, path: Path) -> Session:
        """Open a graph; see `StreamSlot.open`.

        Raises:
            BundleError: ONNX Runtime can't load the graph.
            BackendError: The GPU has too little memory for its batches.
            Unavailable: ONNX Runtime can't load its CUDA provider.
            CudaError: A call to CUDA failed.
        """
        graph = self._graphs[name]
        try:
            known = {axis: 1 for spec in graph.inputs for axis in spec.shape if isinstance(axis, str)}
            for spec in graph.outputs:
                resolve(spec, known)
        except KeyError as error:
            log.warning("graph %s runs one batch at a time: its inputs do not tell the axis %s", name, error)
            with self.lane.report_failures():
                return _UnboundSession(self._session(path, self.lane.stream), self.lane)
        return super().open(name, path)

    def _open_bound(self, name: str, path: Path, stream: Stream) -> Executable:
        return _BoundExecutable(self._session(path, stream), self._graphs[name], self._config.gpu)

    def _session(self, path: Path, stream: Stream) -> Any:
        options: dict[str, object] = {
            "device_id": self._config.gpu,
            "user_compute_stream": stream.handle,
            "use_tf32": 0,  # products with ten bits of mantissa change the vectors of a float32 graph
            "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE measures again for each shape
            "arena_extend_strategy": "kSameAsRequested",
        }
        if self._config.scratch_bytes is not None:
            options["gpu_mem_limit"] = self._config.scratch_bytes
        return _open(path, options)


class _BoundExecutable:
    """A session bound to the lane's memory."""

    # ONNX Runtime may free host memory in a callback on the stream, and a replay would call that again: see
    # `CudaStream::CleanUpOnRunEnd` in its cuda_stream_handle.cc.
    capturable = False

    def __init__(self, session: Any, graph: Graph, device: int) -> None:
        import onnxruntime as ort

        self.inputs = {spec.name: np.dtype(spec.dtype) for spec in graph.inputs}
        self.outputs = {spec.name: np.dtype(spec.dtype) for spec in graph.outputs}
        self._graph = graph
        self._device = device
        self._session = session
        self._binding = session.io_binding()
        self._options = ort.RunOptions()
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        known = symbols(self._graph.inputs, inputs)
        return {spec.name: resolve(spec, known) for spec in self._graph.outputs}

    def enqueue(self, inputs: Bindings, outputs: Bindings, stream: Stream, consumed: Event | None) -> None:
        for name, (pointer, shape) in inputs.items():
            self._binding.bind_input(name, "cuda", self._device, self.inputs[name].type, shape, pointer)
        for name, (pointer, shape) in outputs.items():
            self._binding.bind_output(name, "cuda", self._device, self.outputs[name].type, shape, pointer)
        with _translate_errors():
            self._session.run_with_iobinding(self._binding, self._options)
        if consumed is not None:
            consumed.record(stream)

    def close(self) -> None:
        self._binding = self._session = None


class _UnboundSession:
    """A session that allocates its outputs: a run is over when `start` returns."""

    def __init__(self, session: Any, lane: LaneStream) -> None:
        self._session = session
        self._lane = lane
        self._outputs = [output.name for output in session.get_outputs()]

    def start(self, feeds: Arrays) -> PendingArrays:
        with self._lane.report_failures(), _translate_errors():
            made = dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))
        return lambda: made

    def close(self) -> None:
        self._session = None


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Translate ONNX Runtime's errors: CudaError if the context is broken, else BackendError."""
    try:
        yield
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        raise CudaError.from_message(str(error)) or BackendError(f"ONNX Runtime failed on the GPU: {error}") from error


def _open(path: Path, options: Mapping[str, object]) -> Any:
    """Open a session on the GPU. Raises BundleError, CudaError; Unavailable if it would run on the CPU."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 3
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    # Batches differ in shape from run to run, so a remembered memory plan never fits and only costs.
    settings.enable_mem_pattern = False
    # Keeps the weights out of `gpu_mem_limit`, which is for scratch memory.
    settings.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    try:
        # No fallback: it would print, and go on with the CPU.
        session = ort.InferenceSession(str(path), settings, providers=[(_PROVIDER, dict(options))], enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no public base class for its errors
        if broken := CudaError.from_message(str(error)):
            raise broken from error
        if any(word in str(error) for word in ("cuDNN", "CUDA_PATH", "onnxruntime_providers_cuda")):
            raise Unavailable(f"ONNX Runtime cannot load its CUDA provider: {error}; {_LIBRARIES}") from error
        raise BundleError(f"{path}: ONNX Runtime cannot load the graph: {error}; export the bundle again") from error
    if _PROVIDER not in session.get_providers():
        raise Unavailable(f"ONNX Runtime cannot load its CUDA provider: {_LIBRARIES}")
    return session

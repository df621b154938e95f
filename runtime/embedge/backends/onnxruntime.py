"""ONNX Runtime on the CPU: the backend that runs everywhere."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedge.backends import cores as slots
from embedge.backends.base import Arrays, BackendModel, PendingArrays
from embedge.backends.cores import LaneSplit
from embedge.config import RuntimeConfig
from embedge.errors import BundleError

__all__ = ["CpuSlot", "OnnxRuntimeBackend"]

# The fused CPU kernel takes three times as long as the two nodes it replaces (8x128 tokens, hidden size 384).
_SLOWER = ["SkipLayerNormFusion"]


class OnnxRuntimeBackend:
    """Opens graphs with ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    shares = True
    max_in_flight = 1
    length_multiple = 1
    hang_seconds = 600.0  # a CPU doesn't hang, and a large batch on a slow, busy board takes minutes
    max_batch_tokens = 2048  # throughput is flat from a few hundred on, and memory grows with it
    cuda_graphs = 0

    def __init__(self, config: RuntimeConfig) -> None:
        """Ignore the settings: none concern this backend."""

    def missing(self) -> str:
        """Return how to get ONNX Runtime; an empty string if it is installed."""
        found = importlib.util.find_spec("onnxruntime")
        return "" if found else "onnxruntime is not installed; pip install 'embedge[cpu]'"

    def version(self) -> str:
        """Return ONNX Runtime's version."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def device(self) -> str:
        """Return the CPU's name."""
        return slots.device()

    def load(self, model: BackendModel) -> None:
        """Do nothing: each lane loads the graphs itself, since the number of threads is fixed per session."""

    def candidates(self) -> list[LaneSplit]:
        """Return the splits of the cores into lanes that are worth measuring."""
        return slots.candidates(slots.cores())

    def slot(self, *, threads: int, wake: Callable[[], None]) -> CpuSlot:
        """Return a slot whose sessions have `threads` compute threads. It never calls `wake`."""
        return CpuSlot(threads)

    def close(self) -> None:
        """Do nothing: lanes own their sessions."""


class CpuSlot:
    """A slot on the CPU: just a number of threads."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def open(self, name: str, path: Path) -> OnnxRuntimeSession:
        """Load the graph with the slot's number of compute threads.

        Raises:
            BundleError: ONNX Runtime can't load the file.
        """
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Batch shapes differ from run to run, so a cached memory plan never fits and only costs.
        options.enable_mem_pattern = False
        # Its threads spin only while a run lasts: between runs the cores are free for others.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
            )
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise BundleError(
                f"{path}: ONNX Runtime cannot load the graph: {error}; export the bundle again"
            ) from error
        return OnnxRuntimeSession(session)

    def check(self) -> None:
        """Do nothing: a CPU is never lost."""

    def close(self) -> None:
        """Do nothing: the slot owns no resources."""

    def attach(self) -> None:
        """Do nothing: any thread may run a session."""

    def detach(self) -> None:
        """Do nothing: any thread may run a session."""


class OnnxRuntimeSession:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def start(self, feeds: Arrays) -> PendingArrays:
        outputs = dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))
        return lambda: outputs

    def close(self) -> None:
        self._session = None

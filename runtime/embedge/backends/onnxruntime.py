"""ONNX Runtime on the CPU: the backend that is there everywhere."""

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

# Its CPU kernel takes three times as long as the two nodes that it replaces (8x128 tokens, hidden size 384).
_SLOWER = ["SkipLayerNormFusion"]


class OnnxRuntimeBackend:
    """Opens graphs with ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    shares = True
    max_in_flight = 1
    length_multiple = 1
    hang_seconds = 600.0  # nothing waits for a device here, and a large batch on a slow, busy board takes minutes
    max_batch_tokens = 2048  # a CPU is as fast at a few hundred as at any number, and memory grows with it
    cuda_graphs = 0

    def __init__(self, config: RuntimeConfig) -> None:
        """Nothing in the settings is this backend's own."""

    def missing(self) -> str:
        """Return how to get ONNX Runtime, or nothing if it is here."""
        found = importlib.util.find_spec("onnxruntime")
        return "" if found else "onnxruntime is not installed; pip install 'embedge[cpu]'"

    def version(self) -> str:
        """Return ONNX Runtime's version."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def device(self) -> str:
        """Return the processor's name."""
        return slots.device()

    def load(self, model: BackendModel) -> None:
        """Do nothing: each lane reads the graphs itself, as its number of threads is part of a session."""

    def candidates(self) -> list[LaneSplit]:
        """Return the ways to cut the cores into lanes."""
        return slots.candidates(slots.cores())

    def slot(self, *, threads: int, wake: Callable[[], None]) -> CpuSlot:
        """Return a slot whose sessions have `threads` compute threads; nothing can be lost under it."""
        return CpuSlot(threads)

    def close(self) -> None:
        """Do nothing: lanes share nothing here but sessions, which are theirs."""


class CpuSlot:
    """A slot on the CPU: a number of threads, and nothing that could be lost."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def open(self, name: str, path: Path) -> OnnxRuntimeSession:
        """Load the graph with the slot's number of compute threads. Raises BundleError."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Batches differ in shape from run to run, so a remembered memory plan never fits and only costs.
        options.enable_mem_pattern = False
        # Its threads spin while a run lasts, and no longer: between runs the cores belong to whoever has work.
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
        """Do nothing: a processor is not lost."""

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

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

"""ONNX Runtime on the CPU: the backend that is there everywhere."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from embedge.backends.base import Arrays, Session
from embedge.errors import BundleError

__all__ = ["Runner"]

# Its CPU kernel takes three times as long as the two nodes that it replaces (8x128 tokens, hidden size 384).
_SLOWER = ["SkipLayerNormFusion"]


class Runner:
    """Opens graphs with ONNX Runtime's CPU provider."""

    name = "onnxruntime"
    shares = True

    def missing(self) -> str:
        """Return how to get ONNX Runtime, or nothing if it is here."""
        found = importlib.util.find_spec("onnxruntime")
        return "" if found else "onnxruntime is not installed; pip install 'embedge[cpu]'"

    def version(self) -> str:
        """Return ONNX Runtime's version."""
        import onnxruntime

        return str(onnxruntime.__version__)

    def open(self, graph: Path, *, threads: int) -> Session:
        """Load the graph with `threads` compute threads. Raises BundleError."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Batches differ in shape from run to run, so a remembered memory plan never fits and only costs.
        options.enable_mem_pattern = False
        # Its threads spin while a run lasts, and no longer: between runs the cores belong to whoever has work.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            session = ort.InferenceSession(
                str(graph), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER
            )
        except Exception as error:  # ONNX Runtime has no public base class for its errors
            raise BundleError(
                f"{graph}: ONNX Runtime cannot load the graph: {error}; export the bundle again"
            ) from error
        return _Session(session)


class _Session:
    def __init__(self, session: Any) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feeds: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def close(self) -> None:
        self._session = None

"""The alternatives to embedge: ONNX Runtime's CUDA provider on host arrays, and PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.cases import tower_of
from benchmarks.gpu.lanes import Vectors
from embedge.backends import Arrays
from embedge.bundle import Bundle
from embedge.errors import NotFound, Unavailable

__all__ = ["PlainOnnxRuntime", "PyTorch", "torch_missing"]

_CUDA = "CUDAExecutionProvider"


class PlainOnnxRuntime:
    """A session on the GPU that copies its arrays in and out itself, as in ONNX Runtime's documentation."""

    name = "ONNX Runtime CUDA, plain"

    def __init__(self, path: Path) -> None:
        """Open the session.

        Raises:
            NotFound: The tower has several graphs.
            Unavailable: The CUDA provider can't be loaded.
        """
        import onnxruntime as ort

        bundle = Bundle.load(path)
        tower = bundle.manifest.towers[tower_of(bundle)]
        if len(tower.steps) != 1:
            raise NotFound(f"{path}: plain ONNX Runtime runs one graph, and this tower has {len(tower.steps)}")
        output = next(iter(tower.outputs.values()))
        self._outputs = [output.tensors[0]]
        # As exact as our lanes: products of float32 in TF32 would be another computation.
        options = {"device_id": "0", "use_tf32": "0"}
        graph = bundle.graph(tower.steps[0])
        self._session: Any = ort.InferenceSession(str(graph), providers=[(_CUDA, options)], enable_fallback=0)
        if _CUDA not in self._session.get_providers():
            raise Unavailable("ONNX Runtime cannot load its CUDA provider")

    def run(self, batches: Sequence[Arrays]) -> list[Vectors]:
        """Return the vectors of each batch, `(rows, dim)`."""
        return [self._session.run(self._outputs, dict(feeds))[0] for feeds in batches]

    def close(self) -> None:
        """Free the session."""
        self._session = None


def torch_missing() -> str:
    """Return why PyTorch can't use a GPU here; an empty string if it can."""
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed"
    return "" if torch.cuda.is_available() else f"PyTorch {torch.__version__} sees no GPU"


class PyTorch:
    """The exported graph's PyTorch module, as a program written by `prepare`; run eagerly, without a compiler."""

    def __init__(self, program: Path, *, name: str, device: str = "cuda") -> None:
        """Load the program. It takes the graph's inputs in order, and returns its outputs, the vectors first."""
        import torch
        from torch.export.passes import move_to_device_pass

        torch.set_float32_matmul_precision("highest")
        torch.backends.cudnn.allow_tf32 = False
        loaded = torch.export.load(program)
        self.name = name
        self._device = device
        self._module: Any = move_to_device_pass(loaded, device).module()

    def run(self, batches: Sequence[Arrays]) -> list[Vectors]:
        """Return the vectors of each batch, `(rows, dim)`."""
        import torch

        with torch.inference_mode():
            return [np.asarray(self._compute(feeds).float().cpu()) for feeds in batches]

    def _compute(self, feeds: Arrays) -> Any:
        import torch

        given = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in feeds.items()}
        found = self._module(**{name: array.to(self._device) for name, array in given.items()})
        return found[0] if isinstance(found, tuple | list) else found

    def close(self) -> None:
        """Free the module and PyTorch's cached memory."""
        import torch

        self._module = None
        if self._device == "cuda":
            torch.cuda.empty_cache()

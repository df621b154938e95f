"""Modules of custom towers, from torch or an ONNX file: each is a graph to export and the original that runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle import sha256
from embedge_export.errors import ExportError
from embedge_export.model import GraphInput, GraphSource
from embedge_export.onnx_graph import files as graph
from embedge_export.recipe import StepRecipe
from embedge_export.sources import weights
from embedge_export.user_code import resolve

__all__ = ["ReferenceModule", "open_module", "open_onnx"]

NamedArrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class ReferenceModule:
    """A module of a tower.

    Attributes:
        graph: The graph to export.
        run: Maps graph inputs to tensors by name, both with a batch axis: the original, without normalization.
        takes: Names of the inputs that it accepts.
        definition: The computation, as JSON values.
        hashes: As in `SourceModel`.
        tools: As in `SourceModel`.
        dtypes: Dtypes of inputs, where the module fixes them.
    """

    graph: GraphSource
    run: Callable[[NamedArrays], NamedArrays]
    takes: tuple[str, ...]
    definition: Mapping[str, Any]
    hashes: Mapping[str, str]
    tools: Mapping[str, str]
    dtypes: Mapping[str, str] = field(default_factory=dict)


def open_module(spec: StepRecipe, folder: str, unit: Collection[str] = ()) -> ReferenceModule:
    """Make a torch module on the CPU, in float32.

    Args:
        spec: The step's table.
        folder: The recipe's directory.
        unit: Tensors that the graph scales to length 1.

    Raises:
        ExportError: The factory or the weights cannot be used.
    """
    import torch
    from torch import nn

    from embedge_export.sources.torch.graph import Named, TorchGraph, tools

    name = str(spec.module)
    factory = resolve(name, folder)
    torch.manual_seed(0)  # so that random weights are the same in every build
    try:
        module = factory(**spec.arguments)
    except Exception as error:  # the recipe's own code
        raise ExportError(f"{name}: cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ExportError(f"{name}: returns {type(module).__name__}, not a torch.nn.Module")
    file = Path(folder, spec.weights) if spec.weights else None
    if file is not None:
        _load_weights(module, file)
    module = module.float().eval()
    tensors = spec.gives

    def pick(given: Any) -> list[Any]:
        return _picked(given, tensors, name)

    def run(feeds: NamedArrays) -> NamedArrays:
        with torch.no_grad():
            given = module(**{key: torch.from_numpy(np.array(array)) for key, array in feeds.items()})
        return {key: value.numpy() for key, value in zip(tensors, pick(given), strict=True)}

    return ReferenceModule(
        graph=TorchGraph(Named(module, pick, [tensors.index(each) for each in unit]), tensors),
        run=run,
        takes=tuple(inspect.signature(module.forward).parameters),
        definition={
            "weights": weights.tensor_hash({key: value.numpy() for key, value in module.state_dict().items()}),
            "module": [name, spec.arguments],
            "code": _code_hash(factory),
            "normalized": sorted(unit),
        },
        hashes={file.name: sha256(file)} if file is not None else {},
        tools=tools("torch", "onnxscript"),
    )


def open_onnx(file: Path, needed: Collection[str] = ()) -> ReferenceModule:
    """Open an ONNX file. Raises ExportError if it is missing or lacks a tensor of `needed`."""
    import onnx
    import onnxruntime as ort

    if not file.is_file():
        raise ExportError(f"{file}: no such file; write onnx relative to the recipe")
    graph.check(file)
    model = onnx.load(file)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.output]
    if missing := [name for name in needed if name not in names]:
        raise ExportError(f"{file}: has no output {missing[0]!r}; it has: {', '.join(names)}")
    dtypes = {
        value.name: str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
    }
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return ReferenceModule(
        graph=_OnnxModule(file),
        run=lambda feeds: dict(zip(names, session.run(None, dict(feeds)), strict=True)),
        takes=tuple(dtypes),
        definition={"weights": weights.tensor_hash(tensors), "file": sha256(file)},
        hashes={file.name: sha256(file)},
        tools={"onnx": onnx.__version__},
        dtypes=dtypes,
    )


@dataclass(frozen=True, eq=False)
class _OnnxModule:
    """An ONNX file, unchanged; external weights move into it where they fit."""

    file: Path

    def write(self, path: Path, inputs: Sequence[GraphInput], *, opset: int) -> None:
        """Write the graph at its own opset."""
        import onnx_ir as ir

        graph.save(ir.load(self.file), path)


def _picked(given: Any, tensors: Sequence[str], name: str) -> list[Any]:
    """Return the named tensors of a module's result: by key, or in order. Raises ExportError."""
    if isinstance(given, Mapping):
        if missing := [tensor for tensor in tensors if tensor not in given]:
            raise ExportError(f"{name}: returns {', '.join(map(str, given))}, but no {missing[0]!r}")
        return [given[tensor] for tensor in tensors]
    found = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(found) != len(tensors):
        raise ExportError(
            f"{name}: returns {len(found)} tensors, the outputs name {len(tensors)}: {', '.join(tensors)}"
        )
    return found


def _code_hash(factory: Callable[..., Any]) -> str:
    """Return the SHA-256 of a factory's file: other code may make another model of the same weights."""
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # not written in Python
        file = None
    return sha256(Path(file)) if file else ""


def _load_weights(module: Any, file: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:  # RuntimeError: other names or shapes
        reason = " ".join(str(error).split())
        raise ExportError(f"{file}: the weights cannot be loaded: {reason}") from error

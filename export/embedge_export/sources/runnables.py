"""What towers of one's own are made of: a torch module or an ONNX file, as a graph and as the original that runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle import sha256
from embedge_export import graph
from embedge_export.errors import ExportError
from embedge_export.recipe import TowerRecipe
from embedge_export.sources import weights
from embedge_export.sources.base import GraphSource, Input
from embedge_export.sources.code import resolve

__all__ = ["Runnable", "open_module", "open_onnx"]

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Runnable:
    """Something that computes a tower's tensors.

    run: graph inputs to tensors by name, both of a batch: the original itself, with nothing scaled to length 1.
    definition: what it computes, as JSON values. hashes, tools: as in `Model`. dtypes: of inputs, where it says so.
    """

    graph: GraphSource
    run: Callable[[Arrays], Arrays]
    definition: Mapping[str, Any]
    hashes: Mapping[str, str]
    tools: Mapping[str, str]
    dtypes: Mapping[str, str]


def open_module(said: TowerRecipe, folder: str) -> Runnable:
    """Make the module that a tower's table names, on the CPU, in float32. Raises ExportError."""
    import torch
    from torch import nn

    from embedge_export.sources.torch_graph import Named, TorchGraph, tools

    name = str(said.module)
    factory = resolve(name, folder)
    torch.manual_seed(0)  # where a factory fills weights at random, two builds have the same ones
    try:
        module = factory(**said.arguments)
    except Exception as error:  # the recipe's own code
        raise ExportError(f"{name}: cannot be made: {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise ExportError(f"{name}: gives {type(module).__name__}, not a torch.nn.Module")
    file = Path(folder, said.weights) if said.weights else None
    if file is not None:
        _load_weights(module, file)
    module = module.float().eval()
    tensors = _tensor_names(said)
    unit = _to_unit(said)

    def pick(given: Any) -> list[Any]:
        return _picked(given, tensors, name)

    def run(feeds: Arrays) -> Arrays:
        with torch.no_grad():
            given = module(**{key: torch.from_numpy(np.array(array)) for key, array in feeds.items()})
        return {key: value.numpy() for key, value in zip(tensors, pick(given), strict=True)}

    return Runnable(
        graph=TorchGraph(Named(module, pick, [tensors.index(each) for each in unit]), tensors),
        run=run,
        definition={
            "weights": weights.tensor_hash({key: value.numpy() for key, value in module.state_dict().items()}),
            "module": [name, said.arguments],
            "code": _code_hash(factory),
            "normalized": sorted(unit),
        },
        hashes={file.name: sha256(file)} if file is not None else {},
        tools=tools("torch", "onnxscript"),
        dtypes=said.dtypes,
    )


def open_onnx(said: TowerRecipe, folder: str) -> Runnable:
    """Open the ONNX file that a tower's table names. Raises ExportError."""
    import onnx
    import onnxruntime as ort

    file = Path(folder, str(said.onnx))
    if not file.is_file():
        raise ExportError(f"{file}: no such file; onnx is relative to the recipe")
    graph.check(file)
    model = onnx.load(file)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in model.graph.output]
    if missing := [name for name in _tensor_names(said) if name not in names]:
        raise ExportError(f"{file}: has no output {missing[0]!r}; it gives: {', '.join(names)}")
    dtypes = {
        value.name: str(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        for value in model.graph.input
    }
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return Runnable(
        graph=_File(file),
        run=lambda feeds: dict(zip(names, session.run(None, dict(feeds)), strict=True)),
        definition={"weights": weights.tensor_hash(tensors), "file": sha256(file)},
        hashes={file.name: sha256(file)},
        tools={"onnx": onnx.__version__},
        dtypes={**dtypes, **said.dtypes},
    )


@dataclass(frozen=True, eq=False)
class _File:
    """An ONNX file as it came; weights that lie beside it come in where they fit."""

    file: Path

    def write(self, path: Path, inputs: Sequence[Input], *, opset: int) -> None:
        """Write the graph; its opset is its own."""
        import onnx_ir as ir

        graph.save(ir.load(self.file), path)


def _tensor_names(said: TowerRecipe) -> tuple[str, ...]:
    """Return the tensors that the outputs are read from, in the order in which the recipe names them."""
    return tuple(dict.fromkeys(tensor for output in said.outputs.values() for tensor in output.tensors))


def _to_unit(said: TowerRecipe) -> set[str]:
    vectors = ("dense", "multi_vector")
    return {output.tensors[0] for output in said.outputs.values() if said.normalize and output.kind in vectors}


def _picked(given: Any, tensors: Sequence[str], name: str) -> list[Any]:
    """Return the named tensors of what a module gives: by key, or one after the other. Raises ExportError."""
    if isinstance(given, Mapping):
        if missing := [tensor for tensor in tensors if tensor not in given]:
            raise ExportError(f"{name}: gives {', '.join(map(str, given))}, but no {missing[0]!r}")
        return [given[tensor] for tensor in tensors]
    found = list(given) if isinstance(given, (tuple, list)) else [given]
    if len(found) != len(tensors):
        raise ExportError(f"{name}: gives {len(found)} tensors, the outputs name {len(tensors)}: {', '.join(tensors)}")
    return found


def _code_hash(factory: Callable[..., Any]) -> str:
    """Return the SHA-256 of the file that a factory is in: other code may make another model of the same weights."""
    try:
        file = inspect.getsourcefile(factory)
    except TypeError:  # of something that was not written in Python
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

"""Torch to ONNX: one fast float32 graph of standard operators, with dynamic axes.

The exporter is torch's own, on top of `torch.export`. Three fixes follow (measurements in docs/export.md): reshapes get
constant targets, intermediate shapes are left for the runtime to infer, and the exporter's names and stack traces are
removed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedge.bundle import sha256
from embedge.bundle.manifest import Graph, TensorSpec
from embedge_export.errors import ExportError
from embedge_export.model import GraphInput
from embedge_export.quiet import quiet

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir
    from torch import nn

__all__ = ["check", "describe", "export", "save"]

# The size limit of a protobuf message; larger models keep weights in a file beside the graph.
_ONE_FILE = 2_000_000_000


def export(module: nn.Module, path: Path, *, inputs: Sequence[GraphInput], outputs: Sequence[str], opset: int) -> None:
    """Write a module as a graph.

    Args:
        module: Takes the inputs as keyword arguments; returns one tensor, or a tuple in the order of `outputs`.
        path: The file to write.
        inputs: The graph's inputs.
        outputs: Names of the graph's outputs.
        opset: The ONNX opset.

    Raises:
        ExportError: The module cannot be traced; the message explains why.
    """
    if both := {each.name for each in inputs} & set(outputs):
        raise ExportError(f"{min(both)!r} is an input and an output; rename the output's tensor")
    model = _trace(module, inputs, outputs, opset)
    _tidy(model, outputs)
    save(model, path)


def save(model: ir.Model, path: Path) -> None:
    """Write a graph, its weights inside if they fit, and check it."""
    import onnx_ir as ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    ir.save(model, path, external_data=f"{path.name}_data" if size > _ONE_FILE else None)
    check(path)


def check(path: Path) -> None:
    """Raise ExportError unless the file is valid ONNX."""
    import onnx

    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, OSError) as error:
        raise ExportError(f"{path.name}: the graph is not valid ONNX: {error}") from error


def describe(path: Path, inputs: Sequence[GraphInput]) -> Graph:
    """Return the manifest's record of a graph file, with symbolic sizes named as in `inputs`.

    Raises ExportError if the graph has other inputs, or a fixed size in place of a symbol.
    """
    import onnx

    model = onnx.load(path, load_external_data=False).graph
    found = {value.name: value for value in model.input}
    if set(found) != {each.name for each in inputs}:
        wanted = ", ".join(sorted(each.name for each in inputs))
        raise ExportError(f"{path.name}: the graph takes {', '.join(sorted(found))}; its towers' parts make {wanted}")
    names: dict[str, str] = {}
    for each in inputs:
        _match(found[each.name], each, names, path.name)
    return Graph(
        file=path.name,
        sha256=sha256(path),
        inputs=tuple(_spec(value, names) for value in model.input),
        outputs=tuple(_spec(value, names) for value in model.output),
    )


def _match(value: onnx.ValueInfoProto, wanted: GraphInput, names: dict[str, str], where: str) -> None:
    """Collect the graph's names for the symbols of an input. Raises ExportError if sizes differ."""
    from onnx import helper

    dims = value.type.tensor_type.shape.dim
    dtype = str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
    if len(dims) != len(wanted.shape) or dtype != str(wanted.example.dtype):
        raise ExportError(
            f"{where}: input {value.name!r} is {dtype} with {len(dims)} axes; the parts make {wanted.example.dtype} of "
            f"{', '.join(map(str, wanted.shape))}"
        )
    for dim, size in zip(dims, wanted.shape, strict=True):
        if isinstance(size, str) and dim.dim_value:
            raise ExportError(
                f"{where}: input {value.name!r} has the fixed size {dim.dim_value} where {size!r} varies; export the "
                "graph with that axis dynamic"
            )
        if isinstance(size, int) and dim.dim_value not in (0, size):
            raise ExportError(f"{where}: input {value.name!r} is {dim.dim_value} long where the parts make {size}")
        if isinstance(size, str) and dim.dim_param:
            names[dim.dim_param] = size


def _spec(value: onnx.ValueInfoProto, names: Mapping[str, str]) -> TensorSpec:
    from onnx import helper

    tensor = value.type.tensor_type
    sizes = [
        dim.dim_value or names.get(dim.dim_param, dim.dim_param) or ("batch" if place == 0 else f"{value.name}_{place}")
        for place, dim in enumerate(tensor.shape.dim)
    ]
    return TensorSpec(name=value.name, dtype=str(helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape=tuple(sizes))


def _trace(module: nn.Module, inputs: Sequence[GraphInput], outputs: Sequence[str], opset: int) -> ir.Model:
    import torch

    taken = list(inspect.signature(module.forward).parameters)
    if missing := [each.name for each in inputs if each.name not in taken]:
        raise ExportError(f"the model's forward takes {', '.join(taken)}, but no {missing[0]!r}")
    # The exporter names inputs in the order of the signature.
    ordered = sorted(inputs, key=lambda each: taken.index(each.name))
    dims: dict[str, Any] = {}
    for each in inputs:
        for axis in each.shape:
            if isinstance(axis, str) and axis not in dims:
                dims[axis] = torch.export.Dim(axis, max=each.longest.get(axis))
    shapes = {
        each.name: {place: dims[axis] for place, axis in enumerate(each.shape) if isinstance(axis, str)}
        for each in ordered
    }
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(),
                kwargs={each.name: torch.from_numpy(np.array(each.example)) for each in ordered},
                dynamo=True,
                opset_version=opset,
                input_names=[each.name for each in ordered],
                output_names=list(outputs),
                dynamic_shapes=shapes,
                verbose=False,
            )
        except Exception as error:  # the exporter wraps errors of any kind
            given = "; ".join(f"{each.name} ({', '.join(map(str, each.shape))})" for each in ordered)
            raise ExportError(f"the model cannot be traced with {given}: {_reason(error)}") from error
    if program is None:
        raise ExportError("the model cannot be traced: the exporter returned no program")
    return program.model


def _reason(error: BaseException) -> str:
    """Return the first line of the innermost cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _tidy(model: ir.Model, outputs: Sequence[str]) -> None:
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    for node in list(model.graph):
        if node.op_type == "Reshape":
            _constant_target(model.graph, node)
    RemoveUnusedNodesPass()(model)
    _rename(model, outputs)


def _constant_target(graph: ir.Graph, node: ir.Node) -> None:
    """Make a reshape's target constant if its dynamic sizes keep their positions in the input: 0 copies a size.

    The exporter computes such targets from Shape nodes. Constants cost nothing, and keep ONNX Runtime from fusing
    residual sums with LayerNormalization, a fusion that is 12-20 % slower on CPUs.
    """
    import onnx_ir as ir

    data, target = node.inputs
    sizes = None if data is None or target is None else _target(data, target)
    if sizes is None:
        return
    name = "shape_" + "_".join(map(str, sizes)).replace("-", "m")
    if name not in graph.initializers:
        tensor = ir.tensor(np.array(sizes, np.int64), name=name)
        kind = ir.TensorType(ir.DataType.INT64)
        graph.register_initializer(ir.Value(name=name, const_value=tensor, shape=ir.Shape([len(sizes)]), type=kind))
    node.replace_input_with(1, graph.initializers[name])
    node.attributes.pop("allowzero", None)


def _target(data: ir.Value, target: ir.Value) -> list[int] | None:
    """Return a target shape with 0 for each copied size; None if a dynamic size is not a copy."""
    concat = target.producer()
    if concat is None or concat.op_type != "Concat" or data.shape is None:
        return None
    sizes: list[int] = []
    for part in concat.inputs:
        if part is None:
            return None
        if part.const_value is not None:
            sizes += [int(value) for value in part.const_value.numpy().reshape(-1)]
        elif len(sizes) < len(data.shape) and _size_of(part) == str(data.shape[len(sizes)]):
            sizes.append(0)
        else:
            return None
    return sizes


def _size_of(value: ir.Value) -> str | None:
    """Return the name of the only dynamic size of a Shape node's result."""
    node = value.producer()
    if node is None or node.op_type != "Shape" or node.inputs[0] is None or node.inputs[0].shape is None:
        return None
    start = node.attributes.get("start")
    end = node.attributes.get("end")
    first = start.as_int() if start else 0
    if end is None or end.as_int() != first + 1:
        return None
    return str(node.inputs[0].shape[first])


def _copied(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Return a copy of a value whose name is taken, as an input or another output."""
    import onnx_ir as ir

    node = ir.node("Identity", [value])
    graph.append(node)
    copy = node.outputs[0]
    copy.shape, copy.type = value.shape, value.type
    return copy


def _rename(model: ir.Model, outputs: Sequence[str]) -> None:
    """Set short names, and drop inferred shapes and stack traces (they contain local paths)."""
    graph = model.graph
    for number, node in enumerate(graph):
        node.name = f"{node.op_type}_{number}"
        node.doc_string = None
        node.metadata_props.clear()
        for place, value in enumerate(node.outputs):
            value.metadata_props.clear()
            value.name = f"v{number}" if len(node.outputs) == 1 else f"v{number}_{place}"
            value.shape = value.shape if value.is_graph_output() else None
    for place, (value, name) in enumerate(zip(graph.outputs, outputs, strict=True)):
        given = value.is_graph_input() or value.is_initializer() or value in graph.outputs[:place]
        if value.is_initializer() and value.name == name:  # a constant result; its copy takes the name
            value.name = f"{name}_constant"
        own = _copied(graph, value) if given else value
        graph.outputs[place] = own
        own.name = name
    for value in (*graph.inputs, *graph.initializers.values()):
        value.metadata_props.clear()
    graph.name = "encoder"
    graph.doc_string = model.doc_string = None
    graph.metadata_props.clear()
    model.metadata_props.clear()

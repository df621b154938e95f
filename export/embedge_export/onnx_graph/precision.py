"""The precision pass: matrix products and convolutions of a float32 graph in float16 or bfloat16, by Cast nodes.

Precision is part of the graph, so every runtime computes the same. Products are lowered, and nodes that only pass their
results on. Sensitive nodes stay float32: normalizations, softmax, sums, means, powers, masks, residual sums, and the
graph's own inputs and outputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedge_export.thresholds import Precision

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["lower"]

# Most of the time.
_PRODUCTS = frozenset("Conv ConvTranspose Gemm MatMul".split())
# Nodes without further loss of precision, if all their inputs come from products.
_FOLLOWERS = frozenset(
    "Add Concat Div Erf Expand Flatten Gather Gelu HardSigmoid HardSwish Identity LeakyRelu Mul Neg Relu Reshape "
    "Sigmoid Slice Split Squeeze Sub Tanh Transpose Unsqueeze".split()
)
# The largest finite float16; bfloat16 has the range of float32.
_LARGEST = 65504.0


def lower(path: Path, precision: Precision) -> Precision:
    """Rewrite the graph file at `path` in this precision, and return its actual precision.

    A graph without products, such as a pooling graph, stays float32.
    """
    if precision == "float32":
        return precision
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    from embedge_export.onnx_graph.files import save

    model = ir.load(path)
    _complete(model)
    low = _lowered(model.graph, precision)
    if not low:
        return "float32"
    _rewrite(model.graph, low, ir.DataType.FLOAT16 if precision == "float16" else ir.DataType.BFLOAT16)
    RemoveUnusedNodesPass()(model)  # removes unused float32 weights, too
    save(model, path)
    return precision


def _complete(model: ir.Model) -> None:
    """Infer every value's type, and turn constants into initializers."""
    from onnx_ir.passes import common

    common.LiftConstantsToInitializersPass()(model)
    common.ShapeInferencePass()(model)


def _lowered(graph: ir.Graph, precision: Precision) -> set[ir.Node]:
    """Return the nodes to lower."""
    low: set[ir.Node] = set()
    for node in graph:
        given = list(_floats(node.inputs))
        dynamic = [value for value in given if not _is_constant(value)]
        lowered = sum(value.producer() in low for value in dynamic)
        if node.op_type in _PRODUCTS:
            fits = len(dynamic) == 1 or lowered > 0  # a product of two sensitive values is a sum, as pooling's is
        else:
            fits = node.op_type in _FOLLOWERS and 0 < lowered == len(dynamic)
        if fits and (precision == "bfloat16" or _fit(given)):
            low.add(node)
    return low


def _rewrite(graph: ir.Graph, low: set[ir.Node], dtype: ir.DataType) -> None:
    """Insert a Cast between lowered nodes and others, one per value."""
    import onnx_ir as ir

    casts: dict[ir.Value, ir.Value] = {}
    for node in [*graph]:
        for place, value in enumerate(node.inputs if node in low else ()):
            if value is not None and value.dtype == ir.DataType.FLOAT and value.producer() not in low:
                if value not in casts:
                    casts[value] = _constant(graph, value, dtype) if _is_constant(value) else _cast(graph, value, dtype)
                node.replace_input_with(place, casts[value])
    for node in low:
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT:
                _raise(graph, value, low, dtype)


def _raise(graph: ir.Graph, value: ir.Value, low: set[ir.Node], dtype: ir.DataType) -> None:
    """Set a lowered node's output to `dtype`, and cast it back for other nodes."""
    import onnx_ir as ir

    readers = [(use.node, use.idx) for use in value.uses() if use.node not in low]
    value.type = ir.TensorType(dtype)
    outputs = [place for place, output in enumerate(graph.outputs) if output is value]
    if not readers and not outputs:
        return
    back = _cast(graph, value, ir.DataType.FLOAT)
    for node, place in readers:
        node.replace_input_with(place, back)
    for place in outputs:  # results keep their names
        back.name, value.name = value.name, f"{value.name}_{dtype.name.lower()}"
        graph.outputs[place] = back


def _cast(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return the value in `dtype`, cast right after its producer, for all later nodes."""
    import onnx_ir as ir

    node = ir.node("Cast", [value], {"to": dtype.value}, name=f"{value.name}_to_{dtype.name.lower()}")
    cast = node.outputs[0]
    cast.name, cast.type, cast.shape = node.name, ir.TensorType(dtype), value.shape
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(next(iter(graph)), node)
    return cast


def _constant(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Return a constant in `dtype`; the old one is removed with its last use."""
    import onnx_ir as ir

    name = f"{value.name}_{dtype.name.lower()}"
    numbers = _numbers(value).astype(dtype.numpy())
    lowered = ir.Value(
        name=name, const_value=ir.tensor(numbers, dtype=dtype, name=name), shape=value.shape, type=ir.TensorType(dtype)
    )
    graph.register_initializer(lowered)
    return lowered


def _floats(values: Iterable[ir.Value | None]) -> Iterator[ir.Value]:
    import onnx_ir as ir

    return (value for value in values if value is not None and value.dtype == ir.DataType.FLOAT)


def _is_constant(value: ir.Value) -> bool:
    return value.is_initializer() and not value.is_graph_input()


def _fit(values: Iterable[ir.Value]) -> bool:
    """Return whether float16 holds all constants among the values."""
    return all(np.abs(_numbers(value)).max(initial=0.0) <= _LARGEST for value in values if _is_constant(value))


def _numbers(value: ir.Value) -> NDArray[np.float32]:
    tensor = value.const_value
    if tensor is None:
        raise TypeError(f"{value.name} is not a constant")
    return np.asarray(tensor.numpy())

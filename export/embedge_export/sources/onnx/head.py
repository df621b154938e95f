"""Pooling and normalization as ONNX nodes, appended to a graph of token vectors.

The nodes are written in ONNX's text form. They assume rows padded on the right, as in `torch.heads`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, parser

from embedge_export.errors import ExportError
from embedge_export.recipe import PoolingMode

__all__ = ["append"]

_CONSTANTS: dict[str, NDArray[Any]] = {
    "head_first": np.array(0, np.int64),
    "head_axis": np.array([1], np.int64),
    "head_last_axis": np.array([-1], np.int64),
    "head_along": np.array(1, np.int64),
    "head_zero": np.array(0, np.float32),
    "head_low": np.array(np.finfo(np.float32).min, np.float32),
    "head_tiny": np.array(1e-12, np.float32),
}

_MASK = [
    "head_mask = Cast<to = 1>(attention_mask)",
    "head_count = ReduceSum<keepdims = 1>(head_mask, head_axis)",
    "head_place = CumSum(head_mask, head_along)",
]

# Each token's share (batch, length) of the pooled vector as `MODE_weights`, with MODE as a placeholder.
_WEIGHTS = {
    "mean": ["MODE_weights = Div(head_mask, head_count)"],
    "mean_sqrt_len": ["MODE_root = Sqrt(head_count)", "MODE_weights = Div(head_mask, MODE_root)"],
    "lasttoken": [
        "MODE_is_last = Equal(head_place, head_count)",
        "MODE_last = Cast<to = 1>(MODE_is_last)",
        "MODE_weights = Mul(head_mask, MODE_last)",
    ],
    "weightedmean": [
        "MODE_weighted = Mul(head_mask, head_place)",
        "MODE_total = ReduceSum<keepdims = 1>(MODE_weighted, head_axis)",
        "MODE_weights = Div(MODE_weighted, MODE_total)",
    ],
}
_SUM = [
    "MODE_row = Unsqueeze(MODE_weights, head_axis)",
    "MODE_sum = MatMul(MODE_row, head_tokens)",
    "MODE_vector = Squeeze(MODE_sum, head_axis)",
]
_CLS = ["MODE_vector = Gather<axis = 1>(head_tokens, head_first)"]
_MAX = [
    "MODE_columns = Unsqueeze(head_mask, head_last_axis)",
    "MODE_hidden = Equal(MODE_columns, head_zero)",
    "MODE_seen = Where(MODE_hidden, head_low, head_tokens)",
    "MODE_vector = ReduceMax<keepdims = 0>(MODE_seen, head_axis)",
]
_NORMALIZE = [
    "head_square = Mul(head_pooled, head_pooled)",
    "head_squares = ReduceSum<keepdims = 1>(head_square, head_last_axis)",
    "head_norm = Sqrt(head_squares)",
    "head_length = Max(head_norm, head_tiny)",
    "head_output = Div(head_pooled, head_length)",
]


def append(model: onnx.ModelProto, modes: Sequence[PoolingMode], *, normalize: bool, dim: int, output: str) -> None:
    """Replace the model's outputs by `output`, float32 (batch, dim): its first output, pooled and normalized.

    Without modes, the first output is pooled already. Raises ExportError if the opset is too old.
    """
    opset = next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset < (18 if "max" in modes else 13):
        raise ExportError(
            f"the graph has opset {opset}, too old to add pooling to; export it again with opset 18 or newer"
        )
    result = model.graph.output[0].name
    if modes:
        _add(model, ["head_tokens = Identity(" + result + ")", *_MASK])
        vectors = [_pool(model, mode) for mode in modes]
        _add(model, [f"head_pooled = Concat<axis = -1>({', '.join(vectors)})"])
        result = "head_pooled"
    elif normalize:
        _add(model, [f"head_pooled = Identity({result})"])
    if normalize:
        _add(model, _NORMALIZE)
        result = "head_output"
    _add(model, [f"{output} = Identity({result})"])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in _CONSTANTS.items())
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", dim]))


def _pool(model: onnx.ModelProto, mode: PoolingMode) -> str:
    """Add one mode's nodes; return the name of its vectors (batch, dim)."""
    lines = {"cls": _CLS, "max": _MAX}.get(mode) or [*_WEIGHTS[mode], *_SUM]
    _add(model, [line.replace("MODE", mode) for line in lines])
    return f"{mode}_vector"


def _add(model: onnx.ModelProto, lines: Sequence[str]) -> None:
    model.graph.node.extend(parser.parse_node(line) for line in lines)

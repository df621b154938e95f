"""ONNX files that came from somewhere else: here, a table of token vectors."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["token_vectors"]


def token_vectors(path: Path, tokenizer: Path, *, batch: str | int = "batch", dim: int = 12) -> Path:
    """Write a graph that gives (batch, length, dim), and its tokenizer beside it."""
    table = np.random.default_rng(0).standard_normal((200, dim)).astype(np.float32)
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [batch, "length"]) for name in names]
    output = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [batch, "length", dim])
    nodes = [
        helper.make_node("Add", ["input_ids", "token_type_ids"], ["places"]),
        helper.make_node("Gather", ["table", "places"], ["last_hidden_state"]),
    ]
    graph = helper.make_graph(nodes, "tokens", inputs, [output], [numpy_helper.from_array(table, "table")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    shutil.copy(tokenizer, path.parent / "tokenizer.json")
    return path

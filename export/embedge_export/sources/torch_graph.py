"""What the two torch sources share: the fused module, its graph, and the definition of its space."""

from __future__ import annotations

import importlib.metadata
import inspect
from pathlib import Path
from typing import Any

from torch import nn

from embedge_export import graph
from embedge_export.sources import weights
from embedge_export.sources.attention import eager_attention
from embedge_export.sources.base import GraphWriter, Role
from embedge_export.sources.heads import Cut, Fused, Pool
from embedge_export.sources.tokenizer import has_types

__all__ = ["definition_of", "fuse", "tools", "writer"]

_INPUTS: dict[Role, str] = {"ids": "input_ids", "mask": "attention_mask"}


def fuse(backbone: Any, heads: list[nn.Module], tokenizer: str) -> tuple[dict[Role, str], Fused]:
    """Return the graph's inputs by role, and backbone and heads as one module.

    Token types are an input only where the tokenizer gives a single text other types than 0.
    """
    takes_types = "token_type_ids" in inspect.signature(backbone.forward).parameters
    types_matter = takes_types and getattr(backbone.config, "type_vocab_size", 0) > 0
    if types_matter and has_types(tokenizer):
        return {**_INPUTS, "types": "token_type_ids"}, Fused(backbone, heads, zero_types=False)
    return dict(_INPUTS), Fused(backbone, heads, zero_types=types_matter)


def writer(fused: Fused, backbone: Any, inputs: dict[Role, str]) -> GraphWriter:
    """Return what writes the fused module as an ONNX file."""

    def write(path: Path, *, opset: int) -> None:
        with eager_attention(backbone):
            graph.export(fused, path, inputs=list(inputs.values()), opset=opset)

    return write


def definition_of(fused: Fused, path: Path) -> dict[str, Any]:
    """Return what defines the space: tensors, architecture, and what follows the backbone.

    A BERT-like pooler is no part of it: no vector comes through it, and files without one get a random one.
    """
    tensors = {name: value.numpy() for name, value in fused.state_dict().items() if ".pooler." not in name}
    return {
        "weights": weights.tensor_hash(tensors),
        "config": weights.config_facts(path / "config.json"),
        "heads": [_describe(head) for head in fused.heads],
    }


def _describe(head: Any) -> list[Any]:
    """Return a head's type and the settings that its tensors do not show."""
    settings = [head.modes] if isinstance(head, Pool) else [head.dim] if isinstance(head, Cut) else []
    if type(head).__name__ == "Dense":
        settings = [type(head.activation_function).__name__, head.use_residual]
    return [type(head).__name__, *settings]


def tools(*names: str) -> dict[str, str]:
    """Return the installed versions of distributions."""
    return {name: importlib.metadata.version(name) for name in names}

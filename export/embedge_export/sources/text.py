"""Text towers: shared by the text sources and the text towers of families."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.content import Text
from embedge_export.errors import ExportError
from embedge_export.model import GraphSource, SourceModel, SpaceSource, TowerSource

__all__ = ["OUTPUT", "POOLER", "TOKENIZER", "before", "one_vector", "text_prepare", "whole"]

TOKENIZER = "tokenizer.json"
# The pooler of BERT-like models: unused here, and random if the file has none.
POOLER = ".pooler."
OUTPUT = "embedding"  # the only output of a text encoder's graph


def text_prepare(
    *,
    max_length: int,
    pad_id: int,
    inputs: dict[Any, str],
    prompts: dict[str, str],
    default_prompt: str | None,
    tokenizer: str = TOKENIZER,
    **settings: Any,
) -> TextPrepare:
    """Return a text part's preparation; `settings` are other fields of `TextPrepare`. Raises ExportError."""
    if default_prompt and default_prompt not in prompts:
        known = ", ".join(sorted(prompts)) or "none"
        raise ExportError(f"default_prompt {default_prompt!r} is not among the prompts: {known}")
    return TextPrepare(
        tokenizer=tokenizer,
        max_length=max_length,
        pad_id=pad_id,
        inputs=inputs,
        prompts=prompts,
        default_prompt=default_prompt,
        **settings,
    )


def before(prepare: TextPrepare, content: str | Text) -> str:
    """Return the prefix of a text: its instruction in the template, or else the default prompt."""
    instruction = None if isinstance(content, str) else content.instruction
    if instruction is not None and prepare.instruction is not None:
        return prepare.instruction.replace("{instruction}", instruction)
    return prepare.prompts[prepare.default_prompt] if prepare.default_prompt else ""


def whole(prepare: TextPrepare, content: str | Text) -> str:
    """Return a text with its prefix, as the original needs it."""
    return before(prepare, content) + (content if isinstance(content, str) else content.text)


def one_vector(
    *,
    kind: str,
    prepare: TextPrepare,
    tokenizer: str,
    graph: GraphSource,
    encode: Callable[[Any], NDArray[np.float32]],
    dim: int,
    dims: tuple[int, ...],
    normalized: bool,
    definition: Mapping[str, Any],
    hashes: Mapping[str, str],
    tools: Mapping[str, str],
) -> SourceModel:
    """Return a model of one text tower with a dense vector. `encode` is the original: one text to (dim,)."""
    output = DenseOutput(tensor=OUTPUT, space="text", dim=dim, normalized=normalized, dims=tuple(sorted(dims)))
    tower = TowerSource(
        parts={"text": Part(prepare=prepare)},
        graph=graph,
        outputs={"dense": output},
        original=lambda text: {"dense": encode(text)},
    )
    return SourceModel(
        kind=kind,
        towers={"text": tower},
        spaces={"text": SpaceSource(definition={**definition, "normalized": normalized}, dim=dim)},
        files={TOKENIZER: tokenizer.encode()},
        hashes=hashes,
        tools=tools,
    )

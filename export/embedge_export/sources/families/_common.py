"""Shared by all families: opening a model and its processor, and text parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from embedge.bundle.part_specs import TextPrepare
from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.recipe import Recipe
from embedge_export.sources import tokenizer as tokenizers
from embedge_export.sources import weights
from embedge_export.sources.text import TOKENIZER, text_prepare
from embedge_export.sources.torch.heads import unit

__all__ = ["pretrained", "processor_of", "text_input", "unit"]


def pretrained(path: Path, name: str) -> Any:
    """Return the directory's model, an instance of the class `name`, in float32. Raises ExportError."""
    pickled = not any(path.glob("*.safetensors"))
    with quiet():
        import transformers

        try:
            return getattr(transformers, name).from_pretrained(
                str(path), dtype=torch.float32, use_safetensors=not pickled, trust_remote_code=False
            ).eval()  # fmt: skip
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(weights.unreadable(path, "transformers", error, pickled=pickled)) from error


def processor_of(path: Path, kind: str = "AutoProcessor") -> Any:
    """Return the directory's processor of all modalities, or of that of `kind`. Raises ExportError."""
    with quiet():
        import transformers

        try:
            return getattr(transformers, kind).from_pretrained(str(path), trust_remote_code=False)
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(f"{path}: {kind} cannot load the processor: {type(error).__name__}: {error}") from error


def text_input(
    path: Path,
    tokenizer: Any,
    recipe: Recipe,
    *,
    inputs: dict[Any, str],
    limit: int,
    table: int = 0,
    tower: str = "text",
    file: str = TOKENIZER,
    **settings: Any,
) -> tuple[TextPrepare, dict[str, bytes]]:
    """Return a text part's preparation for a transformers tokenizer, and the tokenizer's JSON.

    Args:
        path: The model's directory.
        tokenizer: The transformers tokenizer.
        recipe: Names prompts and max_length.
        inputs: Graph inputs by role.
        limit: Most tokens of a text, unless the recipe sets fewer.
        table: Rows of the token embeddings; 0 if unknown.
        tower: The tower's name; its table in the recipe takes precedence.
        file: The tokenizer's file name in the bundle.
        settings: Other fields of `TextPrepare`.

    Raises:
        ExportError: The tokenizer does not fit the model, or cannot be exported.
    """
    tokenizers.need_vocabulary(path)
    text = tokenizers.from_transformers(tokenizer, path)
    spec = recipe.of(tower)
    max_length = spec.max_length or min(limit, tokenizer.model_max_length)
    tokenizers.check(text, path, max_length=max_length, table=table)
    prepare = text_prepare(
        max_length=max_length,
        pad_id=tokenizer.pad_token_id or 0,
        inputs=inputs,
        prompts=spec.prompts or {},
        default_prompt=spec.default_prompt,
        tokenizer=file,
        **settings,
    )
    return prepare, {file: text.encode()}

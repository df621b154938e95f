"""Plain transformers text encoders; the recipe names the pooling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.content import Text
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel
from embedge_export.quiet import quiet
from embedge_export.recipe import POOLING, Recipe
from embedge_export.sources import pooling, text, weights
from embedge_export.sources import tokenizer as tokenizers

__all__ = ["fits", "load"]


def fits(path: Path) -> bool:
    """Return whether `path` is a transformers directory."""
    return (path / "config.json").is_file()


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    """Load the directory. Raises ExportError."""
    if not recipe.modes:
        raise ExportError(f"{path}: a plain encoder has no pooling; set it to one of {', '.join(POOLING)}")
    pickled = weights.refuse_pickle(path, allow=allow_pickle)
    tokenizers.need_vocabulary(path)
    model, source_tokenizer = _open(path, pickled=pickled)
    tokenizer = tokenizers.from_transformers(source_tokenizer, path)
    max_length = recipe.max_length or _limit(model, source_tokenizer, path)
    tokenizers.check(tokenizer, path, max_length=max_length, table=getattr(model.config, "vocab_size", 0))
    normalized = bool(recipe.normalize)
    from embedge_export.sources.torch.languages import languages

    spoken = languages(model)
    inputs, fused = _fuse(model, recipe, tokenizer, languages=bool(spoken))

    prepare = text.text_prepare(
        max_length=max_length,
        pad_id=source_tokenizer.pad_token_id or 0,
        inputs=inputs,
        prompts=recipe.prompts,
        default_prompt=recipe.default_prompt,
        instruction=recipe.instruction,
        languages=spoken,
        default_language=model.config.default_language if spoken else None,
    )

    def encode(one: str | Text) -> NDArray[np.float32]:
        language = None if isinstance(one, str) or one.language is None else spoken[one.language]
        states = _states(model, source_tokenizer, text.whole(prepare, one), max_length, language)
        vector = pooling.pool(states, recipe.modes)
        return pooling.normalize(vector[None])[0] if normalized else vector

    from embedge_export.sources.torch.graph import TorchGraph, tools

    return text.one_vector(
        kind="transformers",
        prepare=prepare,
        tokenizer=tokenizer,
        graph=TorchGraph(fused, (text.OUTPUT,)),
        encode=encode,
        dim=model.config.hidden_size * len(recipe.modes),
        dims=recipe.dims,
        normalized=normalized,
        definition=weights.definition(fused, path, without=text.POOLER, heads=fused.described()),
        hashes=weights.file_hashes(path),
        tools=tools("transformers", "torch", "onnxscript"),
    )


def _open(path: Path, *, pickled: bool) -> tuple[Any, Any]:
    with quiet():
        import torch
        from transformers import AutoModel, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
            model = AutoModel.from_pretrained(
                str(path), dtype=torch.float32, use_safetensors=not pickled, trust_remote_code=False
            )
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(weights.unreadable(path, "transformers", error, pickled=pickled)) from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise ExportError(f"{path}: an encoder-decoder model; save its encoder as a separate model, and export that")
    return model.eval(), tokenizer


def _limit(model: Any, tokenizer: Any, path: Path) -> int:
    positions = getattr(model.config, "max_position_embeddings", None) or tokenizers.NO_LIMIT
    limit = min(positions - _reserved(model), tokenizer.model_max_length)
    if limit >= tokenizers.NO_LIMIT:
        raise ExportError(f"{path}: the model has no length limit; set max_length in the recipe")
    return int(limit)


def _reserved(model: Any) -> int:
    """Return the number of unused positions: RoBERTa-like models start after the padding id."""
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    return 0 if padding is None else padding + 1


def _fuse(model: Any, recipe: Recipe, tokenizer: str, *, languages: bool) -> tuple[dict[Any, str], Any]:
    from embedge_export.sources.torch.fused import fuse
    from embedge_export.sources.torch.heads import Normalize, Pooling
    from embedge_export.sources.torch.languages import by_row

    heads = [Pooling(recipe.modes), *([Normalize()] if recipe.normalize else [])]
    return fuse(by_row(model) if languages else model, heads, tokenizer, languages=languages)


def _states(model: Any, tokenizer: Any, one: str, max_length: int, language: int | None) -> NDArray[np.float32]:
    """Return the token vectors (length, dim) of one text, alone and without padding."""
    import torch

    with torch.no_grad(), quiet():
        encoded = tokenizer(one, truncation=True, max_length=max_length, return_tensors="pt")
        extra = {} if language is None else {"lang_ids": torch.tensor([language])}
        states: NDArray[np.float32] = model(**encoded, **extra)[0][0].numpy()
    return states

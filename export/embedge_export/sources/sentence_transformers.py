"""sentence-transformers directories, with every module that modules.json names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.recipe import Recipe
from embedge_export.sources import text, weights
from embedge_export.sources import tokenizer as tokenizers
from embedge_export.sources.base import Model

__all__ = ["fits", "load"]

_KNOWN = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
_MODES = {"mean_sqrt_len_tokens": "mean_sqrt_len"}  # all other pooling modes have the same name there and here


def fits(path: Path) -> bool:
    """Return whether `path` is a sentence-transformers directory."""
    return (path / "modules.json").is_file()


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> Model:
    """Load the directory. Raises ExportError for modules, pooling or weights that cannot be exported."""
    pickled = _check_modules(path, allow_pickle=allow_pickle)
    model = _open(path, recipe, pickled=pickled)
    transformer = model[0]
    _check_transformer(transformer, path)
    tokenizer = tokenizers.from_transformers(model.tokenizer, path)
    max_length = _limit(model, path)
    table = getattr(transformer.auto_model.config, "vocab_size", 0)
    tokenizers.check(tokenizer, path, max_length=max_length, table=table)
    normalized, normalize = _normalization(model, recipe, path)
    inputs, fused = _fuse(model, recipe, tokenizer, normalize=normalize)
    prompts = {name: prompt for name, prompt in {**model.prompts, **recipe.prompts}.items() if prompt}
    if prompts and not all(getattr(module, "include_prompt", True) for module in model):
        raise ExportError(
            f"{path}: the model has prompts but leaves them out of pooling (include_prompt), not supported"
        )
    default = recipe.default_prompt or model.default_prompt_name
    prefix = prompts.get(default, "") if default else ""

    def encode(one: str) -> NDArray[np.float32]:
        with quiet():
            vector = model.encode(one, prompt=prefix, normalize_embeddings=normalized, show_progress_bar=False)
        return np.asarray(vector, dtype=np.float32)

    from embedge_export.sources.torch_graph import TorchGraph, tools

    return text.one_vector(
        kind="sentence_transformers",
        prepare=text.text_prepare(
            max_length=max_length,
            pad_id=model.tokenizer.pad_token_id or 0,
            inputs=inputs,
            prompts=prompts,
            default_prompt=recipe.default_prompt or (default if prefix else None),
        ),
        tokenizer=tokenizer,
        graph=TorchGraph(fused, (text.OUTPUT,)),
        encode=encode,
        dim=model.get_embedding_dimension(),
        dims=recipe.dims,
        normalized=normalized,
        definition=weights.definition(fused, path, without=text.POOLER, heads=fused.described()),
        hashes=weights.file_hashes(path),
        tools=tools("sentence-transformers", "transformers", "torch", "onnxscript"),
    )


def _check_modules(path: Path, *, allow_pickle: bool) -> bool:
    """Refuse what embedge does not know before any of it is imported; return whether weights are pickled."""
    modules = json.loads((path / "modules.json").read_text(encoding="utf-8"))
    pickled = False
    for module in modules:
        kind = str(module["type"])
        name = kind.rsplit(".", 1)[-1]
        if not kind.startswith("sentence_transformers.") or name not in _KNOWN:
            raise ExportError(
                f"{path / 'modules.json'}: module {kind!r} cannot be exported; known modules are {', '.join(_KNOWN)}"
            )
        directory = path / module["path"]
        if name in ("Transformer", "Dense", "LayerNorm"):
            pickled |= weights.refuse_pickle(directory, allow=allow_pickle)
    if not modules or str(modules[0]["type"]).rsplit(".", 1)[-1] != "Transformer":
        raise ExportError(f"{path / 'modules.json'}: the first module must be a Transformer")
    tokenizers.need_vocabulary(path / modules[0]["path"])
    return pickled


def _open(path: Path, recipe: Recipe, *, pickled: bool) -> Any:
    with quiet():
        import torch
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(str(path), device="cpu", model_kwargs={"dtype": torch.float32})
        except Exception as error:  # transformers raises whatever its parts raise
            raise ExportError(weights.unreadable(path, "sentence-transformers", error, pickled=pickled)) from error
    if recipe.max_length is not None:
        model.max_seq_length = recipe.max_length
    return model.eval()


def _check_transformer(transformer: Any, path: Path) -> None:
    modality = transformer.modality_config.get("text", {})
    if "message" in transformer.modality_config or modality.get("method_output_name") != "last_hidden_state":
        raise ExportError(f"{path}: this Transformer module does more than give token vectors; it cannot be exported")


def _limit(model: Any, path: Path) -> int:
    limit = model.max_seq_length
    if limit is None or limit > tokenizers.NO_LIMIT:
        raise ExportError(f"{path}: the model names no length limit; set max_length in the recipe")
    return int(limit)


def _normalization(model: Any, recipe: Recipe, path: Path) -> tuple[bool, bool]:
    """Return whether the vectors come out normalised, and whether that takes a module that the model lacks."""
    own = type(model[-1]).__name__ == "Normalize"
    if own and recipe.normalize is False:
        raise ExportError(f"{path}: the model normalises its vectors; normalize = false cannot undo that")
    wanted = own or bool(recipe.normalize)
    # Cutting makes normalised vectors shorter, so they are normalised once more.
    return wanted, wanted and (not own or model.truncate_dim is not None)


def _fuse(model: Any, recipe: Recipe, tokenizer: str, *, normalize: bool) -> tuple[dict[Any, str], Any]:
    """Return the graph's inputs by role, and the whole model as one torch module."""
    from embedge_export.sources.heads import Cut, Normalize
    from embedge_export.sources.torch_graph import fuse

    heads = [_head(module, recipe) for module in list(model)[1:] if type(module).__name__ != "Dropout"]
    if model.truncate_dim is not None:
        heads.append(Cut(model.truncate_dim))
    if normalize:
        heads.append(Normalize())
    return fuse(model[0].auto_model, heads, tokenizer)


def _head(module: Any, recipe: Recipe) -> Any:
    """Return the module itself, or our own form of it where that exports better."""
    from embedge_export.sources.heads import Normalize, Pool

    name = type(module).__name__
    if name == "Pooling":
        if not module.include_prompt and (recipe.prompts or recipe.default_prompt):
            raise ExportError(
                "the model leaves prompts out of pooling (include_prompt = false), which is not supported"
            )
        return Pool(recipe.modes or _modes(module))
    if name == "Normalize" and module.module_input_name == "sentence_embedding":
        return Normalize()
    return module


def _modes(pooling: Any) -> Any:
    modes = pooling.pooling_mode
    names = (modes,) if isinstance(modes, str) else tuple(modes)
    return tuple(_MODES.get(name, name) for name in names)

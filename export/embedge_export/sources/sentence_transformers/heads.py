"""Heads for the modules behind the first, replaced where another form exports better."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedge_export.errors import ExportError
from embedge_export.recipe import Recipe
from embedge_export.sources import text
from embedge_export.sources.sentence_transformers.routes import Route
from embedge_export.sources.torch import heads
from embedge_export.sources.torch.fused import Fused, fuse

__all__ = ["fused_of", "keep_of", "normalizes"]

_MODES = {"mean_sqrt_len_tokens": "mean_sqrt_len"}  # all other pooling modes keep their names
_ONE, _EACH = "sentence_embedding", "token_embeddings"


def fused_of(
    group: Sequence[Route], words: str, model: Any, recipe: Recipe, path: Path
) -> tuple[dict[Any, str], Fused, tuple[str, ...]]:
    """Return inputs by role, module and output names for routes of the same modules. Raises ExportError."""
    route = group[0]
    each = type(model).__name__ == "MultiVectorEncoder"
    found = [head for module in route.modules[1:] for head in _heads(module, recipe)]
    if (cut := getattr(model, "truncate_dim", None)) is not None:
        found.append(heads.Cut(cut))
    # Truncation shortens normalized vectors, so they are normalized again.
    if normalizes(route, recipe, path) and (cut is not None or not _normalized(route)):
        found.append(heads.Normalize(_EACH if each else _ONE))
    keeps = [_keep(member, name) for member in group if (name := keep_of(member)) is not None] if each else []
    names = [keep.name for keep in keeps]
    inputs, module = _fuse(route, [*found, *keeps], words, outputs=(_EACH if each else _ONE, *names))
    return inputs, module, (text.OUTPUT, *names)


def _fuse(route: Route, found: Sequence[nn.Module], words: str, **settings: Any) -> tuple[dict[Any, str], Fused]:
    if not route.static:
        return fuse(route.first.auto_model, found, words, **settings)
    inputs = {"ids": "input_ids", "mask": "attention_mask"}
    if type(route.first).__name__ == "SparseStaticEmbedding":
        return inputs, Fused(None, [heads.Presence(route.first.weight), *found], **settings)
    lookup = [heads.Lookup(route.first.embedding.weight), heads.Pooling(("mean",))]
    return inputs, Fused(None, [*lookup, *found], **settings)


def normalizes(route: Route, recipe: Recipe, path: Path) -> bool:
    """Return whether vectors have length 1. Raises ExportError if the recipe asks for the impossible."""
    if _normalized(route) and recipe.normalize is False:
        raise ExportError(f"{path}: the model normalizes its vectors; normalize = false cannot undo that")
    return _normalized(route) or bool(recipe.normalize)


def _normalized(route: Route) -> bool:
    shaping = [module for module in route.modules if type(module).__name__ not in ("Dropout", "MultiVectorMask")]
    return type(shaping[-1]).__name__ == "Normalize"


def _heads(module: Any, recipe: Recipe) -> list[Any]:
    """Return the module, or a form of it that exports better; nothing for modules without effect."""
    name = type(module).__name__
    if name in ("Dropout", "MultiVectorMask"):
        return []
    if name == "Pooling":
        return [heads.Pooling(recipe.modes or _modes(module))]
    if name == "SpladePooling":
        return [heads.Splade(module.pooling_strategy, twice=module.activation_function == "log1p_relu")]
    if name == "Normalize" and module.module_input_name == module.module_output_name:
        return [heads.Normalize(module.module_input_name)]
    return [module]


def _modes(pooling: Any) -> Any:
    modes = pooling.pooling_mode
    names = (modes,) if isinstance(modes, str) else tuple(modes)
    return tuple(_MODES.get(name, name) for name in names)


def keep_of(route: Route) -> str | None:
    """Return the name of the output for a route's mask of kept vectors; None if all are kept."""
    return None if _filled(route) and _kept(route) is None else f"keep_{route.name}"


def _keep(route: Route, name: str) -> heads.Keep:
    return heads.Keep(name, _kept(route), padded=_filled(route))


def _filled(route: Route) -> bool:
    """Return whether expansion tokens have vectors as well."""
    return route.expansion is not None and (route.expansion["attend"] or bool(route.named("MultiVectorMask")))


def _kept(route: Route) -> Tensor | None:
    """Return a mask (vocabulary,) of kept token ids; None if all are kept."""
    table = torch.ones(max(len(route.first.tokenizer), route.first.auto_model.config.vocab_size), dtype=torch.bool)
    for mask in route.named("MultiVectorMask"):
        if mask._skiplist_ids is not None and (route.task or "document") in mask.skiplist_tasks:
            table[mask._skiplist_ids] = False
        if route.task != "query" and mask.keep_only_token_ids:
            listed = torch.zeros_like(table)
            listed[mask.keep_only_token_ids] = True
            table &= listed
    return None if table.all() else table

"""Finds the source for a file or directory, and loads it."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from embedge_export.errors import ExportError
from embedge_export.extend import BaseBundle
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe

__all__ = ["SourceModel", "kind_of", "load"]

# Tried in this order. Each module has `fits(path)` and `load(path, recipe, allow_pickle)`. Only `load` imports torch or
# transformers.
_MODULES = {
    "sentence_transformers": "embedge_export.sources.sentence_transformers",
    "onnx": "embedge_export.sources.onnx",
    "families": "embedge_export.sources.families",
    "transformers": "embedge_export.sources.transformers",
}

_CUSTOM = "embedge_export.sources.custom"


def kind_of(path: Path, recipe: Recipe) -> str:
    """Return the name of the source for `path`. Raises ExportError."""
    for name, module in _MODULES.items():
        if name == "families" and recipe.modes:  # with a pooling, the model is a plain text encoder
            continue
        if importlib.import_module(module).fits(path):
            return name
    raise ExportError(
        f"{path}: not a supported encoder; a sentence-transformers directory has modules.json, a "
        "transformers one config.json, an ONNX source a .onnx file with tokenizer.json beside it"
    )


def load(
    path: Path | None, recipe: Recipe, *, allow_pickle: bool = False, old: BaseBundle | None = None
) -> SourceModel:
    """Load a trained encoder, and the recipe's custom towers.

    Args:
        path: The source; None for a recipe without one.
        recipe: The recipe.
        allow_pickle: Read pickled weights. Unpickling runs code.
        old: The bundle to extend.

    Raises:
        ExportError: The source or a tower cannot be exported, or a library is missing.
    """
    try:
        model = None if path is None else _load(path, recipe, allow_pickle=allow_pickle)
        if any(tower.custom for tower in recipe.tower.values()):
            model = importlib.import_module(_CUSTOM).load(recipe, model, old)
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is not installed; pip install 'embedge[export]'") from error
    return cast(SourceModel, model)


def _load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    module = importlib.import_module(_MODULES[kind_of(path, recipe)])
    return cast(Callable[..., SourceModel], module.load)(path, recipe, allow_pickle=allow_pickle)

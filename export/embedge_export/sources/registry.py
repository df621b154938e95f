"""Sources: what a trained encoder can come as. Each module turns one kind of directory into a `SourceModel`."""

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

# Asked in this order. Each module has `fits(path)` and `load(path, recipe, allow_pickle)`; only the one that fits
# imports torch or transformers, and only when it loads.
_MODULES = {
    "sentence_transformers": "embedge_export.sources.sentence_transformers",
    "onnx": "embedge_export.sources.onnx",
    "families": "embedge_export.sources.families",
    "transformers": "embedge_export.sources.transformers",
}

_CUSTOM = "embedge_export.sources.custom"


def kind_of(path: Path, recipe: Recipe) -> str:
    """Return the name of the source that reads `path`. Raises ExportError."""
    for name, module in _MODULES.items():
        if name == "families" and recipe.modes:  # a pooling is named: it is to be a plain text encoder
            continue
        if importlib.import_module(module).fits(path):
            return name
    raise ExportError(
        f"{path}: not an encoder that embedge knows; a sentence-transformers directory has modules.json, a "
        "transformers one config.json, an ONNX source a .onnx file with tokenizer.json beside it"
    )


def load(
    path: Path | None, recipe: Recipe, *, allow_pickle: bool = False, old: BaseBundle | None = None
) -> SourceModel:
    """Load the trained encoder at `path`, and the recipe's own towers. Raises ExportError for what cannot be exported.

    path: None where the recipe names no source. old: the bundle that is extended.
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

"""Families of models in transformers whose towers embedge knows: one module a family, found by `model_type`.

A module has `load(path, recipe) -> Model`. It is asked for a directory whose config.json names its `model_type`, unless
the recipe names a pooling: then the model is taken for a plain text encoder. CONTRIBUTING.md says how to add one.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

from embedge_export.recipe import Recipe
from embedge_export.sources import weights
from embedge_export.sources.base import Model

__all__ = ["FAMILIES", "fits", "load"]

FAMILIES: dict[str, str] = {
    "align": "align",
    "audio-spectrogram-transformer": "ast",
    "blip": "blip",
    "clap": "clap",
    "clip": "clip",
    "dinov2": "vit",
    "dinov2_with_registers": "vit",
    "flava": "flava",
    "metaclip_2": "clip",
    "qwen2": "decoder",
    "qwen3": "decoder",
    "siglip": "siglip",
    "timesformer": "video",
    "videomae": "video",
    "vit": "vit",
    "wav2vec2": "wav2vec2",
    "whisper": "whisper",
    "xclip": "xclip",
}


def fits(path: Path) -> bool:
    """Return whether `path` is a transformers directory of a family."""
    return _model_type(path) in FAMILIES


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> Model:
    """Load the directory. Raises ExportError."""
    weights.refuse_pickle(path, allow=allow_pickle)
    module = importlib.import_module(f"{__name__}.{FAMILIES[_model_type(path)]}")
    return cast(Callable[[Path, Recipe], Model], module.load)(path, recipe)


def _model_type(path: Path) -> str:
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""

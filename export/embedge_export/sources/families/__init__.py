"""Families of models in transformers whose towers embedge knows: one module a family, found by `model_type`.

A module has `load(path, recipe) -> Model`. It is asked for a directory whose config.json names its `model_type`, unless
the recipe names a pooling: then the model is taken for a plain text encoder. Classifiers of texts are cross-encoders,
whatever they are built on. CONTRIBUTING.md says how to add a family.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources import weights

__all__ = ["FAMILIES", "fits", "is_cross_encoder", "load"]

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
    "qwen2_vl": "qwen2_vl",
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
    """Return whether `path` is a directory of a family."""
    return _module(path) is not None


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    """Load the directory. Raises ExportError."""
    weights.refuse_pickle(path, allow=allow_pickle)
    module = importlib.import_module(f"{__name__}.{_module(path)}")
    return cast(Callable[[Path, Recipe], SourceModel], module.load)(path, recipe)


def is_cross_encoder(path: Path) -> bool:
    """Return whether a directory holds a model that scores pairs of texts."""
    if (path / "modules.json").is_file():
        return _config(path / "config_sentence_transformers.json").get("model_type") == "CrossEncoder"
    config = _config(path / "config.json")
    text = FAMILIES.get(str(config.get("model_type"))) in (None, "decoder")  # others classify images or sounds
    return text and any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def _module(path: Path) -> str | None:
    if is_cross_encoder(path):
        return "cross_encoder"
    return FAMILIES.get(str(_config(path / "config.json").get("model_type")))


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}

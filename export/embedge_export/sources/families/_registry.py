"""Finds the module of a family by the `model_type` in config.json.

A module has `load(path, recipe) -> SourceModel`. If the recipe names a pooling, the model counts as a plain text
encoder instead. Text classifiers are cross-encoders, whatever they are built on. To add a family, see CONTRIBUTING.md.
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
    "audio-spectrogram-transformer": "audio_spectrogram_transformer",
    "blip": "blip",
    "clap": "clap",
    "clip": "clip",
    "dinov2": "vit",
    "dinov2_with_registers": "vit",
    "flava": "flava",
    "metaclip_2": "clip",
    "qwen2": "qwen2",
    "qwen2_vl": "qwen2_vl",
    "qwen3": "qwen2",
    "siglip": "siglip",
    "timesformer": "videomae",
    "videomae": "videomae",
    "vit": "vit",
    "wav2vec2": "wav2vec2",
    "whisper": "whisper",
    "xclip": "xclip",
}


def fits(path: Path) -> bool:
    """Return whether `path` is the directory of a known family."""
    return _module(path) is not None


def load(path: Path, recipe: Recipe, *, allow_pickle: bool) -> SourceModel:
    """Load the directory. Raises ExportError if it cannot be exported."""
    weights.refuse_pickle(path, allow=allow_pickle)
    module = importlib.import_module(f"{__package__}.{_module(path)}")
    return cast(Callable[[Path, Recipe], SourceModel], module.load)(path, recipe)


def is_cross_encoder(path: Path) -> bool:
    """Return whether a directory holds a scorer of text pairs."""
    if (path / "modules.json").is_file():
        return _config(path / "config_sentence_transformers.json").get("model_type") == "CrossEncoder"
    config = _config(path / "config.json")
    text = FAMILIES.get(str(config.get("model_type"))) in (None, "qwen2")  # others classify images or sounds
    return text and any(str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def _module(path: Path) -> str | None:
    if is_cross_encoder(path):
        return "_cross_encoder"
    return FAMILIES.get(str(_config(path / "config.json").get("model_type")))


def _config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}

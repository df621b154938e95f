"""Items for the gate from a recipe: arrays, lines of JSON, directories of media, or a function."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedge.bundle.manifest import Part
from embedge.bundle.part_specs import AudioPrepare, ImagePrepare, Prepare, TensorPrepare, VectorPrepare, VideoPrepare
from embedge.content import Audio, Image, Vector, Video
from embedge_export import corpus
from embedge_export.errors import ExportError
from embedge_export.model import SampleSource
from embedge_export.user_code import resolve

__all__ = ["samples_of"]

_MEDIA: dict[type, type] = {ImagePrepare: Image, AudioPrepare: Audio, VideoPrepare: Video}


def samples_of(where: str, parts: Mapping[str, Part], folder: str) -> SampleSource:
    """Return the source of a tower's items.

    Args:
        where: `package.file:function`, or a path relative to `folder`: a .npy file with a row per item, a .jsonl file
            with an object of parts per line (numbers for arrays, paths for media), or a directory with a file per item.
        parts: The tower's parts.
        folder: The recipe's directory.

    Raises:
        ExportError: The samples cannot be read, or are empty.
    """
    if ":" in where:
        return resolve(where, folder)
    items = _read(Path(folder, where), parts)
    if len(items) < 1:
        raise ExportError(f"{Path(folder, where)}: has no items for the gate")
    return lambda count: corpus.thin(items, count)


def _read(path: Path, parts: Mapping[str, Part]) -> Sequence[Mapping[str, Any]]:
    try:
        if path.suffix == ".jsonl":
            lines = path.read_text(encoding="utf-8").splitlines()
            return [_line(json.loads(line), parts, path.parent) for line in lines if line.strip()]
        ((name, part),) = parts.items()
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
            return [{name: _content(part.prepare, file.name, path)} for file in files]
        return [{name: _content(part.prepare, row, path.parent)} for row in np.load(path, allow_pickle=False)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        known = "a .jsonl file, or for one part a .npy file or a directory"
        raise ExportError(f"{path}: no items can be read: {error}; samples must be {known}") from error


def _line(values: Any, parts: Mapping[str, Part], folder: Path) -> dict[str, Any]:
    """Return a line's item; for a tower with one part, the line may be its content."""
    if len(parts) == 1 and not (isinstance(values, dict) and set(values) == set(parts)):
        values = {next(iter(parts)): values}
    return {name: _content(parts[name].prepare, value, folder) for name, value in values.items()}


def _content(prepare: Prepare, value: Any, folder: Path) -> Any:
    if type(prepare) in _MEDIA:
        return _MEDIA[type(prepare)]((folder / value).read_bytes())
    if isinstance(prepare, TensorPrepare):
        return np.asarray(value, dtype=prepare.dtype)
    if isinstance(prepare, VectorPrepare):
        return Vector(np.asarray(value, dtype=np.float32))
    return value

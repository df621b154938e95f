"""Weights: accepted files, and the hash that identifies a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle import sha256
from embedge_export.errors import ExportError

__all__ = ["config_facts", "definition", "file_hashes", "refuse_pickle", "tensor_hash", "unreadable"]

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Keys of a config about how it was saved, not about the computation.
_VOLATILE = {"_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache"}


def refuse_pickle(directory: Path, *, allow: bool) -> bool:
    """Return whether the weights in `directory` are pickled. Raises ExportError if they are, unless allowed."""
    if any(directory.glob("*.safetensors")):
        return False
    pickles = sorted(file.name for pattern in _PICKLES for file in directory.glob(pattern))
    if pickles and not allow:
        raise ExportError(
            f"{directory / pickles[0]}: pickled weights can run any code when loaded; convert them to "
            "safetensors, or, if you trust them, pass --allow-pickle"
        )
    return bool(pickles)


def unreadable(path: Path, reader: str, error: Exception, *, pickled: bool) -> str:
    """Return the message for a source that its own library cannot load. Some errors are a bare number."""
    advice = "; check that the pickled weights are complete, and written by torch" if pickled else ""
    return f"{path}: {reader} cannot load it: {type(error).__name__}: {error}{advice}"


def tensor_hash(tensors: Mapping[str, NDArray[np.generic]]) -> str:
    """Return a SHA-256 of the tensors, (n, …) by name, independent of their split over files."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.data)
    return digest.hexdigest()


def definition(module: Any, path: Path, *, without: str | None = None, **settings: Any) -> dict[str, Any]:
    """Return the definition of a torch module's spaces: its tensors, the architecture in config.json, `settings`.

    Tensors with `without` in their name are left out: they do not affect vectors.
    """
    tensors = {n: value.numpy() for n, value in module.state_dict().items() if without is None or without not in n}
    return {"weights": tensor_hash(tensors), "config": config_facts(path / "config.json"), **settings}


def config_facts(file: Path) -> dict[str, Any]:
    """Return the keys of a config.json that affect the computation."""
    if not file.is_file():
        return {}
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return {key: value for key, value in config.items() if key not in _VOLATILE}


def file_hashes(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that affects a source's vectors, by relative path."""
    if root.is_file():
        return {root.name: sha256(root)}
    kinds = {".json", ".safetensors", ".txt", ".model", ".bin", ".onnx", ".onnx_data"}
    files = sorted(file for file in root.rglob("*") if file.is_file() and file.suffix in kinds)
    return {file.relative_to(root).as_posix(): sha256(file) for file in files}

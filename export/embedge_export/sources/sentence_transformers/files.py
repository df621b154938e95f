"""The files of a sentence-transformers directory, checked before anything is imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from embedge_export.errors import ExportError
from embedge_export.sources import tokenizer as tokenizers
from embedge_export.sources import weights

__all__ = ["check", "family_of", "kind_of"]

_FIRST = ("Transformer", "MLMTransformer", "StaticEmbedding", "SparseStaticEmbedding")
_WEIGHTS = (*_FIRST, "Dense", "LayerNorm")
_LATER = ("Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", "SpladePooling", "MultiVectorMask")
_KNOWN = (*_FIRST, *_LATER, "Router")
_PYLATE = {"pylate.models.Dense.Dense": "Dense"}  # sentence-transformers reads it itself
_KINDS = {"ColBERT": "MultiVectorEncoder"}  # the name PyLate saves
_SEEING = ("align", "clip", "metaclip_2", "siglip")
_READ = ("SentenceTransformer", "SparseEncoder", "MultiVectorEncoder")


class _Module(NamedTuple):
    name: str
    directory: Path
    first: bool


def check(path: Path, *, allow_pickle: bool) -> bool:
    """Return whether weights are pickled. Raises ExportError if the directory cannot be exported."""
    pickled = False
    for module in _modules(path):
        if module.first and module.name not in _FIRST:
            raise ExportError(
                f"{module.directory}: the first module must be a {' or '.join(_FIRST)}, not {module.name}"
            )
        if module.first:
            tokenizers.need_vocabulary(module.directory)
        if module.name in _WEIGHTS:
            pickled |= weights.refuse_pickle(module.directory, allow=allow_pickle)
    return pickled


def kind_of(path: Path) -> str:
    """Return the name of the class for the directory. Raises ExportError."""
    file = path / "config_sentence_transformers.json"
    saved = str(_json(file).get("model_type") or "") if file.is_file() else ""
    if not saved:  # older directories omit it
        saved = "SparseEncoder" if any(m.name == "SpladePooling" for m in _modules(path)) else "SentenceTransformer"
    kind = _KINDS.get(saved, saved)
    if kind not in _READ:
        raise ExportError(f"{file}: a {kind} cannot be exported; supported are {', '.join(_READ)}")
    return kind


def family_of(path: Path) -> Path | None:
    """Return the directory of the only module if it is a transformers model of texts and images, else None."""
    modules = [module for module in _json(path / "modules.json") if not str(module["type"]).endswith(".Normalize")]
    if len(modules) != 1:
        return None
    config: Path = path / modules[0]["path"] / "config.json"
    seeing = config.is_file() and _json(config).get("model_type") in _SEEING
    return config.parent if seeing else None


def _modules(path: Path) -> Iterator[_Module]:
    """Yield every module; a router is replaced by its modules."""
    file = path / "modules.json"
    for place, module in enumerate(_json(file)):
        name, directory = _name(str(module["type"]), file), path / module["path"]
        if name != "Router":
            yield _Module(name, directory, first=not place)
            continue
        if place:
            raise ExportError(f"{file}: a Router can only be exported as the first module")
        yield from _routed(directory)


def _routed(directory: Path) -> Iterator[_Module]:
    file = directory / "router_config.json"
    config = _json(file)
    firsts = {route[0] for route in config["structure"].values() if route}
    for key, kind in config["types"].items():
        yield _Module(_name(kind, file), directory / key, first=key in firsts)


def _name(kind: str, file: Path) -> str:
    """Return a module's name. Raises ExportError for an unsupported module."""
    name = _PYLATE.get(kind, kind.rsplit(".", 1)[-1])
    if (kind not in _PYLATE and not kind.startswith("sentence_transformers.")) or name not in _KNOWN:
        raise ExportError(f"{file}: module {kind!r} cannot be exported; supported modules are {', '.join(_KNOWN)}")
    return name


def _json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))

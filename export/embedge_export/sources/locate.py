"""Locates a source: a path, a file in an installed package, or a repository of the model hub."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from embedge_export.errors import ExportError

__all__ = ["locate", "revision_of"]

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SAFE_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", "*.onnx", "*.onnx_data"]
_PICKLES = ["*.bin", "*.pt"]


def locate(source: str, *, revision: str | None = None, allow_pickle: bool = False) -> Path:
    """Return the local path of a source, downloading it if it is a hub id. Raises ExportError."""
    if source.startswith("package:"):
        return _in_package(source.removeprefix("package:"))
    path = Path(source).expanduser()
    if path.exists():
        return path.resolve()
    if not _HUB_ID.fullmatch(source) or source.startswith("."):
        raise ExportError(f"{source}: no such file or directory")
    return _from_hub(source, revision, allow_pickle)


def revision_of(path: Path) -> str:
    """Return the commit of a hub snapshot; empty for any other path."""
    return path.name if path.parent.name == "snapshots" else ""


def _in_package(name: str) -> Path:
    package, _, rest = name.partition("/")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ExportError(f"package:{name}: the package {package!r} is not installed; install it with pip")
    path = Path(spec.submodule_search_locations[0]) / rest
    if not path.exists():
        raise ExportError(f"package:{name}: the package {package!r} is installed, but has no {rest!r}")
    return path


def _from_hub(source: str, revision: str | None, allow_pickle: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ExportError(f"{source}: no such directory; for hub ids, pip install 'embedge[export]'") from error
    try:
        patterns = _SAFE_FILES + (_PICKLES if allow_pickle else [])
        return Path(snapshot_download(source, revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises errors of many libraries
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ExportError(f"{source}: no such directory, and the model hub failed: {reason}") from error

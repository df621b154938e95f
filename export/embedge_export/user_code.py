"""User code of a recipe: `package.file:name`, from a file in the recipe's directory or an installed package."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from embedge_export.errors import ExportError

__all__ = ["resolve"]

_OURS = "_embedge_recipe_"


def resolve(name: str, folder: str) -> Callable[..., Any]:
    """Import `package.file:name` for a recipe in `folder`. Raises ExportError."""
    place, _, attribute = name.partition(":")
    if not place or not attribute:
        raise ExportError(f"{name!r} is not a name of code; write it as package.file:name")
    file = Path(folder, *place.split(".")).with_suffix(".py")
    try:
        with _importing(folder):
            module = _from_file(file) if file.is_file() else importlib.import_module(place)
    except Exception as error:  # the module's own code runs here
        raise ExportError(f"{name}: cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, attribute, None)
    if not callable(found):
        raise ExportError(f"{name}: {module.__name__ if not file.is_file() else file} has no callable {attribute!r}")
    return found  # type: ignore[no-any-return]  # any callable


def _from_file(file: Path) -> ModuleType:
    """Import a file under a name unique to its path and content: two recipes may have a `model.py`."""
    name = f"{_OURS}{sha256(str(file.resolve()).encode() + file.read_bytes()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as the import system does, for dataclasses and pickle
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _importing(folder: str) -> Iterator[None]:
    """Allow imports from the recipe's directory, then forget their names: other recipes may reuse them."""
    path = Path(folder).resolve()
    before = set(sys.modules)
    sys.path.insert(0, str(path))
    try:
        yield
    finally:
        sys.path.remove(str(path))
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if not name.startswith(_OURS) and file and Path(file).parent == path:
                del sys.modules[name]

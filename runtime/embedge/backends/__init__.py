"""Backends by name, imported only when chosen. `auto` takes the first that can run here, and says why."""

from __future__ import annotations

import importlib
from typing import cast

from embedge.backends.base import Arrays, Backend, Session
from embedge.errors import NotFound, Unavailable

__all__ = ["Arrays", "Backend", "Session", "choose", "names"]

# In order of preference. The value is the module that holds the class `Runner`.
_MODULES = {"onnxruntime": "embedge.backends.onnxruntime"}


def names() -> tuple[str, ...]:
    """Return the names of all backends, the preferred first."""
    return tuple(_MODULES)


def choose(name: str = "auto") -> tuple[Backend, str]:
    """Return a backend that can run here and the reason for the choice. Raises NotFound, Unavailable."""
    if name != "auto":
        backend = _load(name)
        if missing := backend.missing():
            raise Unavailable(f"backend {name!r} cannot run here: {missing}")
        return backend, f"{name} was asked for"
    refused: list[str] = []
    for candidate in _MODULES:
        backend = _load(candidate)
        if not (missing := backend.missing()):
            passed = f" ({'; '.join(refused)})" if refused else ""
            return backend, f"{candidate} is the first in order that can run here{passed}"
        refused.append(f"{candidate}: {missing}")
    raise Unavailable(f"no backend can run here: {'; '.join(refused)}")


def _load(name: str) -> Backend:
    if name not in _MODULES:
        raise NotFound(f"backend {name!r} is unknown; choose one of auto, {', '.join(_MODULES)}")
    return cast(Backend, importlib.import_module(_MODULES[name]).Runner())

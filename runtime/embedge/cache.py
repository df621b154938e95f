"""Small records kept between starts, in the user's cache directory. Losing one costs a measurement, never a vector."""

from __future__ import annotations

import hashlib
import logging
import os
from pathlib import Path
from typing import TypeVar

import msgspec

from embedge import atomic

__all__ = ["directory", "key", "load", "save"]

log = logging.getLogger("embedge.cache")

CachedRecord = TypeVar("CachedRecord")


def directory() -> Path:
    """Return where records live: $EMBEDGE_CACHE, or `embedge` in the user's cache directory."""
    if named := os.environ.get("EMBEDGE_CACHE"):
        return Path(named)
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises where there is no home
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(home, ".cache")) / "embedge"


def key(*facts: object) -> str:
    """Return a name for a record that holds for these facts only."""
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:32]


def load(kind: str, name: str, record: type[CachedRecord]) -> CachedRecord | None:
    """Return a record, or None where there is none that can be read."""
    path = directory() / kind / f"{name}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=record)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        log.warning("%s: not used: %s", path, error)
        return None


def save(kind: str, name: str, record: object) -> None:
    """Write a record in one step. A cache that cannot be written is logged and done without."""
    path = directory() / kind / f"{name}.json"
    data = msgspec.json.encode(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(path, data, mode=0o600)
    except OSError as error:
        log.warning("%s: not written, so it is measured again at the next start: %s", path, error)

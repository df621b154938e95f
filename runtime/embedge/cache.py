"""Small records in the user's cache directory. A lost record costs time at the next start, nothing else."""

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
    """Return the directory for records: $EMBEDGE_CACHE, or `embedge` in the user's cache directory."""
    if named := os.environ.get("EMBEDGE_CACHE"):
        return Path(named)
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises without a home
    return Path(os.environ.get("XDG_CACHE_HOME") or Path(home, ".cache")) / "embedge"


def key(*facts: object) -> str:
    """Return the name of the record for these facts, a hash of them."""
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:32]


def load(kind: str, name: str, record: type[CachedRecord]) -> CachedRecord | None:
    """Read a record.

    Args:
        kind: The directory of records of this kind.
        name: See `key`.
        record: The type of the record.

    Returns:
        The record; None if it is missing or cannot be read.
    """
    path = directory() / kind / f"{name}.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=record)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        log.warning("%s: not used: %s", path, error)
        return None


def save(kind: str, name: str, record: object) -> None:
    """Write a record atomically. If the cache cannot be written, log a warning and continue."""
    path = directory() / kind / f"{name}.json"
    data = msgspec.json.encode(record)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(path, data, mode=0o600)
    except OSError as error:
        log.warning("%s: cannot be written, so the next start measures again: %s", path, error)

"""Files and folders that appear whole or not at all: hash, sync, and replace in one step.

Every writer of a file that outlives its process goes through this module.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["move_folder", "replacing", "sha256", "sync", "sync_folder", "write"]

_PIECE = 1 << 20
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux' renameat2
_HERE = -100  # AT_FDCWD


def sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file, read in pieces of 1 MiB.

    Raises:
        OSError: the file can't be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make a folder and everything below it durable, the folder itself last."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def write(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Replace a file's content in one step. See `replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, mode: int = 0o666, durable: bool = True, draft: Path | None = None) -> Iterator[BinaryIO]:
    """Yield a file that takes the place of `path` when the block ends.

    If the block or the disk fails, `path` keeps its old content and the draft is removed. Readers see the old content
    or the new one, never a part of it.

    Args:
        path: the file to replace. Where it is a link, the link itself is replaced.
        mode: permissions of the new file, less the umask. Those of the old file don't carry over.
        durable: whether the content survives a power cut once the block has ended. Files that are rewritten every few
            seconds can do without: a crash of the process alone never tears a file.
        draft: where to write until then, on the same file system. By default a new name beside `path`.

    Raises:
        OSError: the file can't be written or moved into place.
    """
    draft = draft or path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open(draft, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
    if durable:
        with suppress(OSError):  # not every file system can sync a directory, and the file is in place
            sync(path.parent)


def move_folder(staged: Path, target: Path) -> None:
    """Rename a folder to `target`, or exchange the two if `target` exists.

    After an exchange, the old folder lies at `staged`, for the caller to remove. Where the system can't exchange, no
    folder is at `target` for the moment between two renames. Sync both before and the parents after.
    """
    if not target.exists():
        staged.rename(target)
    elif not _exchange(staged, target):
        old = staged.with_name(staged.name + ".old")
        target.rename(old)
        staged.rename(target)
        old.rename(staged)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step. Return whether the system can."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    return bool(renameat2(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0)

"""Errors of a full or failing disk. Python's own write errors don't name the file; `naming` adds it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FAULTS", "naming"]

FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Add this path to disk errors raised inside the block without one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FAULTS:
            error.filename = str(path)
        raise

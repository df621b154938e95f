"""What a full or failing disk says. Python's own errors from a write name no file, so whoever writes adds it here."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["FAULTS", "naming"]

FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Give an OSError of the disk that comes from inside, and names no file, this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno in FAULTS:
            error.filename = str(path)
        raise

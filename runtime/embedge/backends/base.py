"""The whole contract of a backend, on one screen.

A backend opens a graph and gets a session; a lane owns the session and calls it from its own thread only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arrays", "Backend", "Session"]

Arrays = Mapping[str, NDArray[np.generic]]


class Session(Protocol):
    """A graph made ready to run in one lane."""

    def run(self, feeds: Arrays) -> Arrays:
        """Return all outputs by name for the inputs by name. Any exception means that this run failed."""
        ...

    def close(self) -> None:
        """Free what the session holds; it is not used again."""
        ...


class Backend(Protocol):
    """A way to run graphs on this machine.

    shares: whether lanes of one thread each may run the same session at the same time, so that weights are held once.
    """

    name: str
    shares: bool

    def missing(self) -> str:
        """Return why this backend cannot run here and how to get it; empty when it can."""
        ...

    def version(self) -> str:
        """Return the version of the library underneath."""
        ...

    def open(self, graph: Path, *, threads: int) -> Session:
        """Load an ONNX file. `threads`: compute threads of the session. Raises BundleError for an unreadable graph."""
        ...

"""`embedge` with a backend whose runs of more than 8 tokens a row never return. It says so on stdout, once a run."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from embedge import backends
from embedge.cli import main

_SHORT = 8  # the length of self-tests


class Runner:
    """The backend: see embedge.backends.base."""

    name = "hanging"
    shares = False

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return "1"

    def open(self, graph: Path, *, threads: int) -> Session:
        return Session()


class Session:
    def run(self, feeds: Any) -> dict[str, np.ndarray]:
        rows, length = feeds["input_ids"].shape
        if length > _SHORT:
            sys.stdout.write("hanging\n")
            sys.stdout.flush()
            threading.Event().wait()
        return {"dense": np.ones((rows, 16), np.float32)}

    def close(self) -> None: ...


if __name__ == "__main__":
    backends._MODULES["hanging"] = __name__
    main()

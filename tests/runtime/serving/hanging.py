"""`embedge` with a backend whose runs of more than 8 tokens a row never return. It says so on stdout, once a run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from embedge import backends
from embedge.backends import PendingArrays, onnxruntime
from embedge.cli import main

_SHORT = 8  # the length of self-tests


class HangingBackend(onnxruntime.OnnxRuntimeBackend):
    """The backend: see embedge.backends.base."""

    name = "hanging"
    shares = False

    def slot(self, *, threads: int, wake: Callable[[], None]) -> Slot:
        return Slot(threads)


class Slot(onnxruntime.CpuSlot):
    def open(self, name: str, path: Path) -> Session:
        return Session()


class Session:
    def start(self, feeds: Any) -> PendingArrays:
        rows, length = feeds["input_ids"].shape
        if length > _SHORT:
            sys.stdout.write("hanging\n")
            sys.stdout.flush()
            threading.Event().wait()
        return lambda: {"dense": np.ones((rows, 16), np.float32)}

    def close(self) -> None: ...


if __name__ == "__main__":
    backends._CLASSES["hanging"] = f"{__name__}:HangingBackend"
    main()

"""CUDA through one of two Python libraries, imported only when needed. Nothing else imports them."""

from __future__ import annotations

import pkgutil
import threading
from typing import cast

from embedge.cuda.context import SharedContext
from embedge.cuda.driver import CapturedGraph, CudaError, Driver, Event, Gpu, Memory, Pinned, Stream
from embedge.errors import NotFound, Unavailable

__all__ = [
    "CapturedGraph",
    "CudaError",
    "Driver",
    "Event",
    "Gpu",
    "Memory",
    "Pinned",
    "SharedContext",
    "Stream",
    "choose",
    "names",
]

# In order of preference: only the first can capture. A class is imported only when needed.
_CLASSES = {
    "cuda-python": "embedge.cuda.cuda_python:CudaPythonDriver",
    "pycuda": "embedge.cuda.pycuda:PyCudaDriver",
}

# One driver per library and device, so that the primary context is retained once; kept until the process ends.
_drivers: dict[tuple[str, int], Driver] = {}
_making = threading.Lock()  # guards `_drivers`; held by `_driver`


def names() -> tuple[str, ...]:
    """Return the names of all libraries, the preferred first."""
    return tuple(_CLASSES)


def choose(name: str = "auto", device: int = 0) -> Driver:
    """Return the driver of a device.

    Args:
        name: A library's name, or "auto" for the first that can run here.
        device: Index of the GPU.

    Raises:
        NotFound: The name is unknown.
        Unavailable: No library can run here; the message has every reason.
    """
    if name != "auto" and name not in _CLASSES:
        raise NotFound(f"cuda {name!r} is unknown; choose one of auto, {', '.join(_CLASSES)}")
    refused: list[str] = []
    for candidate in names() if name == "auto" else (name,):
        driver = _driver(candidate, device)
        if not (missing := driver.missing()):
            return driver
        refused.append(f"{candidate}: {missing}")
    raise Unavailable(f"no GPU can be used here: {'; '.join(refused)}")


def _driver(name: str, device: int) -> Driver:
    with _making:
        if (name, device) not in _drivers:
            _drivers[name, device] = cast(Driver, pkgutil.resolve_name(_CLASSES[name])(device))
        return _drivers[name, device]

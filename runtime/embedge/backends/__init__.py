"""Backends by name, imported only when chosen. `auto` takes the first that can run here, and says why."""

from __future__ import annotations

import logging
import pkgutil
from pathlib import Path
from typing import cast

from embedge.backends.base import Arrays, Backend, BackendModel, DeviceSlot, PendingArrays, Session
from embedge.config import RuntimeConfig
from embedge.errors import BackendError, NotFound, Unavailable

__all__ = [
    "Arrays",
    "Backend",
    "BackendModel",
    "DeviceSlot",
    "PendingArrays",
    "Session",
    "choose",
    "gpu_present",
    "names",
    "ready",
]

log = logging.getLogger("embedge.backends")

# In order of preference. A class is imported only when its backend is asked for.
_CLASSES = {
    "tensorrt": "embedge.backends.tensorrt:TensorRTBackend",
    "onnxruntime-cuda": "embedge.backends.onnxruntime_cuda:OnnxRuntimeCudaBackend",
    "onnxruntime": "embedge.backends.onnxruntime:OnnxRuntimeBackend",
}
# Where an NVIDIA GPU shows: the driver's own file on a server, on a Jetson, and under WSL.
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")


def names() -> tuple[str, ...]:
    """Return the names of all backends, the preferred first."""
    return tuple(_CLASSES)


def choose(config: RuntimeConfig | None = None) -> tuple[Backend, str]:
    """Return a backend that can run here, with nothing loaded, and the reason for it. Raises NotFound, Unavailable."""
    return _first(config or RuntimeConfig(), None)


def ready(model: BackendModel) -> tuple[Backend, str]:
    """Return a backend that has made the model ready, and the reason for it.

    Of `auto`, the first in order that can; the log warns of each that is passed over where there may be a GPU.
    Raises NotFound; Unavailable and BackendError where the one that was asked for, or none at all, can.
    """
    return _first(model.config, model)


def _first(config: RuntimeConfig, model: BackendModel | None) -> tuple[Backend, str]:
    if config.backend != "auto":
        return _asked(config, model), f"{config.backend} was asked for"
    refused: list[str] = []
    for name in _CLASSES:
        backend = _made(name, config)
        if missing := backend.missing():
            log.log(logging.WARNING if gpu_present() else logging.INFO, "backend %s is passed over: %s", name, missing)
            refused.append(f"{name}: {missing}")
            continue
        try:
            _load(backend, model)
        except (Unavailable, BackendError) as error:
            if model is not None:
                model.cancel.check()  # or the next would be loaded, for nobody
            log.warning("backend %s is passed over: %s", name, error)
            refused.append(f"{name}: {error}")
            continue
        passed = f" ({'; '.join(refused)})" if refused else ""
        return backend, f"{name} is the first in order that can run here{passed}"
    raise Unavailable(f"no backend can run here: {'; '.join(refused)}")


def _asked(config: RuntimeConfig, model: BackendModel | None) -> Backend:
    """Return the backend that the settings name."""
    backend = _made(config.backend, config)
    if missing := backend.missing():
        raise Unavailable(f"backend {config.backend!r} cannot run here: {missing}")
    _load(backend, model)
    return backend


def _load(backend: Backend, model: BackendModel | None) -> None:
    """Let the backend make the model ready; it is closed if it cannot."""
    if model is None:
        return
    try:
        backend.load(model)
    except BaseException:
        backend.close()
        raise


def gpu_present() -> bool:
    """Return whether this machine seems to have an NVIDIA GPU, so that running without it deserves a warning."""
    return any(Path(file).exists() for file in _GPU_FILES)


def _made(name: str, config: RuntimeConfig) -> Backend:
    if name not in _CLASSES:
        raise NotFound(f"backend {name!r} is unknown; choose one of auto, {', '.join(_CLASSES)}")
    return cast(Backend, pkgutil.resolve_name(_CLASSES[name])(config))

"""Backends by name, imported only when chosen. `auto` takes the first that can run here, with the reason."""

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

# In order of preference. A class is imported only when its backend is needed.
_CLASSES = {
    "tensorrt": "embedge.backends.tensorrt:TensorRTBackend",
    "onnxruntime-cuda": "embedge.backends.onnxruntime_cuda:OnnxRuntimeCudaBackend",
    "onnxruntime": "embedge.backends.onnxruntime:OnnxRuntimeBackend",
}
# The NVIDIA driver's device files: on a server, on a Jetson, and under WSL.
_GPU_FILES = ("/dev/nvidiactl", "/dev/nvmap", "/dev/dxg")


def names() -> tuple[str, ...]:
    """Return the names of all backends, the preferred first."""
    return tuple(_CLASSES)


def choose(config: RuntimeConfig | None = None) -> tuple[Backend, str]:
    """Return a backend that can run here, with nothing loaded.

    Args:
        config: Its `backend` names one, or "auto".

    Returns:
        The backend, and why it was chosen.

    Raises:
        NotFound: The name is unknown.
        Unavailable: The named backend can't run here, or none can.
    """
    return _first(config or RuntimeConfig(), None)


def ready(model: BackendModel) -> tuple[Backend, str]:
    """Return a backend with the model loaded.

    "auto" takes the first in order that can load it. The log warns of each one skipped on a machine with a GPU.

    Args:
        model: What to load; its settings name the backend.

    Returns:
        The backend, and why it was chosen.

    Raises:
        NotFound: The name is unknown.
        Unavailable: The named backend can't run here, or none can.
        BackendError: The named backend can't run the model.
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
                model.cancel.check()  # cancelled: don't load the next one for nobody
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
    """Load the model; close the backend if that fails."""
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

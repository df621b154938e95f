"""Prune the cache of plans: remove what no installed version can use."""

from __future__ import annotations

from threading import Event

from embedge.backends.tensorrt.plans.key import BuildDevice
from embedge.backends.tensorrt.plans.record import PlanRecord
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.version import __version__

__all__ = ["outdated", "prune"]

_SYSTEM = ("driver", "release", "l4t", "system")


def prune(store: PlanStore, tensorrt: str, device: BuildDevice) -> tuple[int, int]:
    """Remove damaged plans and plans of other versions of TensorRT, the driver or embedge.

    Plans for other GPUs and power modes stay. Waits for a running build.

    Args:
        store: The cache.
        tensorrt: The installed version of TensorRT.
        device: This machine.

    Returns:
        The number of plans removed, and the bytes freed.

    Raises:
        BackendError: The cache can't be trusted or written.
    """
    count = freed = 0
    with store.building(Event()):
        for folder, record in list(store.plans()):
            if record is None or outdated(record, tensorrt, device):
                freed += store.remove(folder)
                count += 1
        for file in store.timing.glob("*"):
            if not file.name.startswith(f"{tensorrt}-"):
                freed += file.stat().st_size
                file.unlink()
    return count, freed


def outdated(record: PlanRecord, tensorrt: str, device: BuildDevice) -> bool:
    """Return whether a plan is for other versions, whatever its GPU and power mode."""
    key = record.key
    same = (key.tensorrt, key.embedge) == (tensorrt, __version__)
    return not same or any(getattr(key.device, name) != getattr(device, name) for name in _SYSTEM)

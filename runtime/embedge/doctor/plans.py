"""Probe of the cache of TensorRT plans: how many there are, and which can no longer be used here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from embedge.backends.tensorrt.plans.key import BuildDevice
from embedge.backends.tensorrt.plans.prune import outdated
from embedge.backends.tensorrt.plans.record import PlanRecord
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.cuda.driver import Gpu
from embedge.doctor.findings import Finding
from embedge.doctor.machine import Machine, python
from embedge.errors import BackendError

__all__ = ["plans"]

# What `embedge build --prune` goes by; null where there is no TensorRT or no GPU that could tell.
_HERE = """
import msgspec
from embedge import cuda
from embedge.backends.tensorrt import library
from embedge.errors import Unavailable
try:
    told = library.version(), cuda.choose().gpu()
except Unavailable:
    told = None
print(msgspec.json.encode(told).decode())
"""


def plans(machine: Machine) -> Iterator[Finding]:
    """Tell how many plans are in the cache, and how many of them no version that is here can use."""
    store = PlanStore(machine.cache / "plans")
    try:
        kept = list(store.plans())
    except BackendError as error:
        yield Finding("plans", error.message, "warning")
        return
    if not kept:
        return
    text = f"{_told(folder for folder, _ in kept)} in the cache"
    useless = _useless(machine, kept)
    if useless:
        how = "embedge build --prune removes them"
        yield Finding("plans", f"{text}; {_told(useless)} of it for other versions, or damaged", help=how)
    else:
        yield Finding("plans", text)


def _useless(machine: Machine, kept: list[tuple[Path, PlanRecord | None]]) -> list[Path]:
    """Return the folders of what would be pruned; nothing where it cannot be known."""
    here = msgspec.json.decode(machine.run(python(_HERE)), type=tuple[str, Gpu] | None)
    if here is None:
        return []
    version, device = here[0], BuildDevice.here(here[1], machine.root)
    return [folder for folder, record in kept if record is None or outdated(record, version, device)]


def _told(folders: Iterable[Path]) -> str:
    sizes = [sum(path.lstat().st_size for path in folder.iterdir()) for folder in folders]
    return f"{len(sizes)} ({sum(sizes) / 2**20:,.1f} MiB)"

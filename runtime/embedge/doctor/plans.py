"""Probe of the TensorRT plan cache: the number of plans, and the outdated ones."""

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

# The criteria of `embedge build --prune`; null without TensorRT or a GPU.
_HERE = """
import msgspec
from embedge import cuda
from embedge.backends.tensorrt import library
from embedge.errors import Unavailable
try:
    found = library.version(), cuda.choose().gpu()
except Unavailable:
    found = None
print(msgspec.json.encode(found).decode())
"""


def plans(machine: Machine) -> Iterator[Finding]:
    """Report the number of cached plans, and of those for other versions."""
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
    """Return the folders `--prune` would remove; none if that can't be determined."""
    here = msgspec.json.decode(machine.run(python(_HERE)), type=tuple[str, Gpu] | None)
    if here is None:
        return []
    version, device = here[0], BuildDevice.here(here[1], machine.root)
    return [folder for folder, record in kept if record is None or outdated(record, version, device)]


def _told(folders: Iterable[Path]) -> str:
    sizes = [sum(path.lstat().st_size for path in folder.iterdir()) for folder in folders]
    return f"{len(sizes)} ({sum(sizes) / 2**20:,.1f} MiB)"

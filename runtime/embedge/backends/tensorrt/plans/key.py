"""The key of a plan: all that it holds for. A plan for anything else is another plan, and is never loaded."""

from __future__ import annotations

import hashlib
import math
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from embedge.batches.shapes import Profile, Range
from embedge.bundle import Bundle
from embedge.cuda.driver import Gpu
from embedge.version import __version__

__all__ = ["BuildDevice", "BuildFlags", "PlanKey"]

_GIB = 1 << 30
_CLASS = 4  # GiB: what a board reports differs a little from one driver to the next


class BuildDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that a plan is for: its kernels were chosen by their times here.

    memory: GiB, rounded up to a multiple of 4. driver: the CUDA version it supports, 12060 for 12.6. release: major
    version of NVIDIA's driver. l4t, power: of a Jetson its release and its power mode. Empty where there is none.
    """

    gpu: str
    capability: tuple[int, int]
    multiprocessors: int
    memory: int
    integrated: bool
    driver: int
    release: str = ""
    l4t: str = ""
    power: str = ""
    system: str

    @classmethod
    def here(cls, gpu: Gpu, root: Path = Path("/")) -> BuildDevice:
        """Return what this machine is. root: where its files are."""
        return cls(
            gpu=gpu.name,
            capability=gpu.capability,
            multiprocessors=gpu.multiprocessors,
            memory=math.ceil(gpu.memory / _GIB / _CLASS) * _CLASS,
            integrated=gpu.integrated,
            driver=gpu.driver,
            release=_read(root / "proc/driver/nvidia/version", r"Kernel Module(?: for \S+)?\s+(\d+)"),
            l4t=_read(root / "etc/nv_tegra_release", r"R(\d+).*?REVISION:\s*([\d.]+)"),
            power=_read(root / "var/lib/nvpmodel/status", r"pmode:(\w+)"),
            system=f"{platform.system()}-{platform.machine()}".lower(),
        )


class BuildFlags(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a plan is built. Plans are strongly typed and for one version and device: there are no flags for others.

    level: TensorRT's optimisation level, 0 to 5. workspace: bytes of GPU memory that kernels may use between them.
    tf32: whether float32 products may be rounded to TF32. aux_streams: streams that TensorRT may add of its own.
    options: names of other builder flags, sorted. plugins: SHA-256 of each plug-in library.
    """

    level: int
    workspace: int
    tf32: bool = False
    aux_streams: int = 0
    options: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


class PlanKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that a plan holds for.

    graph: SHA-256 of the ONNX file. weights: of the file beside it, where its weights are in one. precision: as in the
    manifest. profiles: sizes of the inputs. tensorrt: its full version. cuda: the CUDA version that TensorRT was made
    for, where it says so. embedge: the version that builds.
    """

    graph: str
    weights: str = ""
    precision: str
    profiles: tuple[dict[str, Range], ...]
    tensorrt: str
    cuda: str = ""
    device: BuildDevice
    flags: BuildFlags
    embedge: str = __version__

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        graph: str,
        profiles: Sequence[Profile],
        *,
        tensorrt: str,
        cuda: str = "",
        device: BuildDevice,
        flags: BuildFlags,
    ) -> PlanKey:
        """Return the key of a bundle's graph."""
        record = bundle.manifest.graphs[graph]
        return cls(
            graph=record.sha256,
            weights=bundle.manifest.files.get(f"{record.file}_data", ""),
            precision=record.precision,
            profiles=tuple(dict(each) for each in profiles),
            tensorrt=tensorrt,
            cuda=cuda,
            device=device,
            flags=flags,
        )

    def digest(self) -> str:
        """Return a name for the plan: the hex SHA-256 of all fields."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def differences(self, here: PlanKey) -> str:
        """Return in what this key differs from the one that is asked for here; empty if in nothing."""
        return "; ".join(f"{name} {there!r}, here {wanted!r}" for name, there, wanted in _differing(self, here))


def _differing(there: PlanKey, here: PlanKey) -> Iterator[tuple[str, object, object]]:
    """Yield what differs, by the name of the field: what says most to a reader comes first."""
    for names, one, other in (
        (("gpu", "capability", "multiprocessors", "memory", "integrated"), there.device, here.device),
        (("tensorrt", "cuda"), there, here),
        (("driver", "release", "l4t", "power", "system"), there.device, here.device),
        (("embedge", "graph", "weights", "precision"), there, here),
        (BuildFlags.__struct_fields__, there.flags, here.flags),
        (("profiles",), there, here),
    ):
        for name in names:
            if getattr(one, name) != getattr(other, name):
                yield name, getattr(one, name), getattr(other, name)


def _read(path: Path, pattern: str) -> str:
    """Return what a file of the system says, its groups joined by dots; nothing where there is none that says it."""
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return ".".join(found.groups()) if found else ""

"""The key of a plan: everything it depends on. A plan with another key is never loaded."""

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
_CLASS = 4  # GiB; the reported memory differs a little from driver to driver


class BuildDevice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine that a plan is for: TensorRT chose its kernels by timing them there.

    Attributes:
        gpu: The GPU's name.
        capability: Compute capability, major and minor.
        multiprocessors: Number of streaming multiprocessors.
        memory: GiB, rounded up to a multiple of 4.
        integrated: Whether it shares the host's memory.
        driver: The CUDA version that the driver supports, 12060 for 12.6.
        release: Major version of NVIDIA's driver; empty if unknown.
        l4t: Release of a Jetson's software; else empty.
        power: Power mode of a Jetson; else empty.
        system: Operating system and CPU architecture.
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
        """Return this machine.

        Args:
            gpu: The GPU's properties.
            root: Root of the file system.
        """
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
    """How a plan is built. Plans are strongly typed, for one version and device.

    Attributes:
        level: TensorRT's optimization level, 0 to 5.
        workspace: Bytes of GPU memory for a layer's intermediate results.
        tf32: Whether float32 products may be rounded to TF32.
        aux_streams: Auxiliary streams that TensorRT may add.
        options: Names of other builder flags, sorted.
        plugins: SHA-256 of each plug-in library.
    """

    level: int
    workspace: int
    tf32: bool = False
    aux_streams: int = 0
    options: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


class PlanKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a plan depends on.

    Attributes:
        graph: SHA-256 of the ONNX file.
        weights: SHA-256 of its file of external weights; empty if it has none.
        precision: As in the manifest.
        profiles: Ranges of the input shapes, by input.
        tensorrt: TensorRT's full version.
        cuda: The CUDA version TensorRT was built for; empty if unknown.
        device: The machine.
        flags: How it is built.
        embedge: The version of embedge that builds it.
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
        """Return the plan's name: the SHA-256 of all fields, hex."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    def differences(self, here: PlanKey) -> str:
        """Return how this key differs from the key wanted here; an empty string if it doesn't."""
        return "; ".join(f"{name} {there!r}, here {wanted!r}" for name, there, wanted in _differing(self, here))


def _differing(there: PlanKey, here: PlanKey) -> Iterator[tuple[str, object, object]]:
    """Yield differing fields with both values, the most telling first."""
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
    """Return the pattern's groups in a system file, joined by dots; an empty string without a match."""
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return ""
    return ".".join(found.groups()) if found else ""

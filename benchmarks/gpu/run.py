"""One run: measures everything available, and records why the rest is missing."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata

import embedge
from benchmarks.gpu import providers
from benchmarks.gpu.cases import Case
from benchmarks.gpu.measure import Pace
from benchmarks.gpu.measured import LANES, Found, Measured
from benchmarks.gpu.peers import torch_missing
from benchmarks.gpu.records import Record
from embedge import backends
from embedge.config import RuntimeConfig
from embedge.errors import Unavailable

__all__ = ["BACKENDS", "run"]

BACKENDS = ("tensorrt", "onnxruntime-cuda")
_PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt", "cuda-bindings", "pycuda")


def run(cases: Sequence[Case], pace: Pace, tell: Callable[[str], None] = lambda _: None) -> Record:
    """Measure everything. `tell` is called with a line for each part. Raises Unavailable without a GPU."""
    drivers, missing = providers.drivers()
    if not drivers:
        raise Unavailable("; ".join(missing))
    why = {name: _missing(name) for name in BACKENDS} | {"PyTorch": torch_missing()}
    found = Found(missing=[*missing, *(f"{name}: {reason}" for name, reason in why.items() if reason)])
    here = [name for name in BACKENDS if not why[name]]
    checks = tuple(providers.check(driver) for driver in drivers)
    for case in cases:
        for precision in case.bundles:
            tell(f"{case.name}, {precision}")
            Measured(case, precision, found, pace, here, torch=not why["PyTorch"]).all()
    return Record(
        date=datetime.now(timezone.utc).date().isoformat(),
        device=providers.device(drivers[0]),
        versions={**_versions(), **found.versions},
        lanes=LANES,
        rounds=pace.rounds,
        checks=checks,
        parity=tuple(found.parity),
        rates=tuple(found.rates),
        latencies=tuple(found.latencies),
        ratios=tuple(found.ratios),
        missing=tuple(dict.fromkeys(found.missing)),
    )


def _missing(name: str) -> str:
    """Return why a backend can't run here; an empty string if it can."""
    try:
        backends.choose(RuntimeConfig(backend=name))
    except Unavailable as error:
        return error.message
    return ""


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version(), "embedge": embedge.__version__}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found

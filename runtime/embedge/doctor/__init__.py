"""The machine's hardware and libraries, the backend for models and why, and missing packages.

Each probe is a function from a `Machine` to findings. A failing probe becomes a line and stops no other. Probes that
load a library or touch a GPU run in a separate process, because they may crash or hang.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from embedge.doctor import gpus, libraries, plans, system
from embedge.doctor.findings import Finding, Report
from embedge.doctor.machine import Machine, here, python

__all__ = ["Finding", "Machine", "Report", "examine", "here"]

Probe = Callable[[Machine], Iterator[Finding]]

_PROBES: tuple[Probe, ...] = (
    *(system.platform, system.board, system.power, system.heat, system.memory, system.space),
    *(gpus.gpus, gpus.sharers, gpus.throttling),
    *(libraries.onnxruntime, libraries.cudnn, libraries.tensorrt, libraries.cuda, plans.plans),
)
_CHOICE = """
import json
from embedge import backends
from embedge.errors import EmbedgeError
try:
    backend, reason = backends.choose()
    print(json.dumps([f"{backend.name} {backend.version()}", reason]))
except EmbedgeError as error:
    print(json.dumps(["", str(error)]))
"""


def examine(machine: Machine) -> Report:
    """Return all findings and the chosen backend."""
    findings = [finding for probe in _PROBES for finding in _asked(probe, machine)]
    backend, reason = _choice(machine)
    return Report(findings, backend, reason)


def _asked(probe: Probe, machine: Machine) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(probe(machine))
    except Exception as error:  # whatever a strange machine does to a probe, the others are still worth their lines
        told = " ".join(str(error).split()) or type(error).__name__
        found.append(Finding(probe.__name__, f"could not be found out: {told}", "failed"))
    return found


def _choice(machine: Machine) -> tuple[str, str]:
    try:
        backend, reason = msgspec.json.decode(machine.run(python(_CHOICE)), type=tuple[str, str])
    except Exception as error:  # crashing libraries are the doctor's very purpose
        return "", f"choosing failed: {' '.join(str(error).split())}"
    return backend, reason

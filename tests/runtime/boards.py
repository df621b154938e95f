"""Machines that are not here, for the doctor to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from embedge.cuda import Gpu
from embedge.doctor import Finding, Machine, Report

CPU = json.dumps(["onnxruntime 1.31.1", "onnxruntime is the first in order that can run here"])
ORIN = Gpu(0, "Orin", (8, 7), 8, 8 << 30, True, 12060, "0000:00:00.0")
GPU = msgspec.json.encode(ORIN).decode()


def machine(
    root: Path,
    files: Mapping[str, str] | None = None,
    commands: Mapping[str, str | Exception] | None = None,
    packages: Mapping[str, str] | None = None,
    choice: str | Exception = CPU,
) -> Machine:
    """Build a machine. commands: answers by a word that is in the command line."""
    for name, text in (files or {}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    answers: dict[str, str | Exception] = {"backends.choose": choice, "get_available": "CPUExecutionProvider"}
    answers |= {"library.version()": "null", "cuda.choose()": json.dumps("no GPU can be used here"), "ps -eo": ""}
    answers |= dict(commands or {})
    there = dict(packages or {})

    def run(command: Sequence[str]) -> str:
        line = " ".join(command)
        for word, answer in answers.items():
            if word in line:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        raise FileNotFoundError(2, "No such file or directory", command[0])

    return Machine(
        root=root,
        run=run,
        version=lambda name: there.get(name, ""),
        finds=lambda name: name in there or f"{name}-gpu" in there,
        arch="aarch64",
        python="3.10.12",
        prefix=root / "venv",
        cache=root / "cache",
    )


def release(major: int, revision: str) -> dict[str, str]:
    return {
        "etc/nv_tegra_release": f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64"
    }


def meminfo(gigabytes: int, swap: int = 0) -> dict[str, str]:
    lines = {"MemTotal": gigabytes << 20, "MemAvailable": gigabytes << 19, "SwapTotal": swap << 20}
    return {"proc/meminfo": "\n".join(f"{name}:  {value} kB" for name, value in lines.items())}


def told(report: Report, topic: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.topic == topic]


def states(report: Report) -> dict[str, str]:
    """Return the topics that are not all well, with their state."""
    return {finding.topic: finding.state for finding in report.findings if finding.state != "ok"}

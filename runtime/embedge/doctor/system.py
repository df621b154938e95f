"""Probes of the machine itself: memory, cache, and Jetson specifics."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from embedge.doctor.findings import Finding
from embedge.doctor.machine import Machine

__all__ = ["board", "heat", "memory", "platform", "power", "space"]

_SMALL = 9 << 20  # kB: boards sold with 8 GB
_JETPACK = {"35": "5", "36": "6", "38": "7", "39": "7"}
# Where the package nvidia-jetpack is not installed: Jetson Linux and JetPack, as NVIDIA's release pages pair them.
_POINT = dict(
    pair.split("=")
    for pair in "36.3.0=6.0 36.4.0=6.1 36.4.3=6.2 36.4.4=6.2.1 36.4.7=6.2.1 36.5.0=6.2.2 "
    "38.2.0=7.0 38.2.1=7.0 38.4.0=7.1 39.2.0=7.2 39.2.1=7.2.1".split()
)


def platform(machine: Machine) -> Iterator[Finding]:
    """Report the system, architecture and Python."""
    release = dict(line.split("=", 1) for line in machine.read("etc/os-release").splitlines() if "=" in line)
    name = release.get("PRETTY_NAME", "Linux").strip('"')
    yield Finding("system", f"{name}, {machine.arch}, Python {machine.python}")


def board(machine: Machine) -> Iterator[Finding]:
    """Report the Jetson model, and warn of an environment without JetPack's packages."""
    if not machine.jetson:
        return
    major = machine.jetson.partition(".")[0]
    model = machine.read("proc/device-tree/model") or "Jetson"
    jetpack = _JETPACK.get(major)
    yield Finding("board", f"{model}, L4T {machine.jetson}, JetPack {_point(machine) or jetpack or 'unknown'}")
    if jetpack in (None, "5"):
        yield Finding("board", f"L4T {machine.jetson} is not known to work", "warning", "JetPack 6 or 7 is supported")
    config = machine.prefix / "pyvenv.cfg"
    if config.is_file() and "include-system-site-packages = true" not in config.read_text(encoding="utf-8"):
        how = "python3 -m venv --system-site-packages VENV"
        yield Finding("environment", "this venv does not see JetPack's TensorRT", "warning", how)


def power(machine: Machine) -> Iterator[Finding]:
    """Report a Jetson's power mode and GPU clock."""
    if not machine.jetson:
        return
    said = machine.run(["nvpmodel", "-q"])
    found = re.search(r"NV Power Mode:\s*(\S+)", said)
    mode = found.group(1) if found else said
    largest = _largest(machine)
    if mode.startswith("MAXN") or not largest:
        yield Finding("power", f"mode {mode}")
    else:
        number, name = largest
        how = f"sudo nvpmodel -m {number} is {name}, where supply and cooling allow it"
        yield Finding("power", f"mode {mode}", "missing", f"{how}; sudo jetson_clocks holds the clocks")
    for clock in sorted((machine.root / "sys/class/devfreq").glob("*gpu*")):
        now, most = (int((clock / name).read_text()) / 1e6 for name in ("cur_freq", "max_freq"))
        yield Finding("clocks", f"GPU at {now:.0f} of {most:.0f} MHz")


def _point(machine: Machine) -> str:
    """Return JetPack's full version, or an empty string."""
    try:
        installed = machine.run(["dpkg-query", "--show", "--showformat=${Version}", "nvidia-jetpack"])
    except (OSError, RuntimeError):  # it is often left out, as in containers
        installed = ""
    return re.split(r"[-+]", installed)[0] or _POINT.get(machine.jetson, "")


def _largest(machine: Machine) -> tuple[str, str] | None:
    """Return number and name of the unlimited power mode; its number differs by board."""
    modes = re.findall(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(MAXN\w*)", machine.read("etc/nvpmodel.conf"), re.MULTILINE)
    return max(modes, key=lambda mode: len(mode[1]), default=None)


def heat(machine: Machine) -> Iterator[Finding]:
    """Warn of thermal throttling."""
    folder = machine.root / "sys/class/thermal"
    zones = [int(text) / 1000 for path in folder.glob("thermal_zone*/temp") if (text := _text(path)).isdigit()]
    slowed = [
        kind
        for device in sorted(folder.glob("cooling_device*"))
        if "fan" not in (kind := _text(device / "type")) and int(_text(device / "cur_state") or 0) > 0
    ]
    if machine.jetson and slowed:
        text = f"the board is throttling: {', '.join(slowed)} held back at {max(zones, default=0):.0f} °C"
        yield Finding("heat", text, "warning", "cool it, or choose a lower power mode; figures taken now mean little")
    elif machine.jetson and zones:
        yield Finding("heat", f"{max(zones):.0f} °C at most, nothing is throttled")


def memory(machine: Machine) -> Iterator[Finding]:
    """Report the memory, and warn of a small board without swap and of a tight control group."""
    lines = (line.split() for line in machine.read("proc/meminfo").splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
    total, free, swap = (sizes.get(name, 0) for name in ("MemTotal", "MemAvailable", "SwapTotal"))
    yield Finding("memory", f"{free / 2**20:.1f} of {total / 2**20:.1f} GiB free, {swap / 2**20:.1f} GiB swap")
    limit = machine.read("sys/fs/cgroup/memory.max")
    if limit.isdigit():
        yield Finding("memory", f"its control group may use {int(limit) / 2**30:.1f} GiB")
    if machine.jetson and 0 < total < _SMALL and not swap:
        how = "make a swap file of 8 GB; docs/jetson.md says how"
        yield Finding("swap", "8 GB without swap may not be enough to build plans", "warning", how)


def space(machine: Machine) -> Iterator[Finding]:
    """Report the cache directory, and warn if it isn't writable or nearly full."""
    folder = machine.cache
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(there, os.W_OK):
        how = "set EMBEDGE_CACHE to a directory of this user's own"
        yield Finding("cache", f"{folder} cannot be written: every start measures and builds again", "warning", how)
        return
    free = shutil.disk_usage(there).free
    low = free < 2 << 30
    how = "make room, or set EMBEDGE_CACHE to another disk" if low else ""
    yield Finding("cache", f"{folder}, {free / 2**30:.1f} GiB free", "warning" if low else "ok", how)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""

"""Probes of GPUs: models, memory users, and throttling."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from embedge.cuda.driver import Gpu
from embedge.doctor.findings import Finding
from embedge.doctor.machine import Machine, python

__all__ = ["gpus", "sharers", "throttling"]

# Least drivers of CUDA 12 and 13 on servers: NVIDIA's pages on CUDA compatibility, table "driver version ranges".
_DRIVERS = ((525, 12), (580, 13))
_FIELDS = "index,name,compute_cap,driver_version,memory.free,memory.total"
_USERS = "pid,process_name,used_memory"
_REASONS = ("hw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown", "sw_thermal_slowdown", "sw_power_cap")
_FAMILIES = ("clocks_event_reasons", "clocks_throttle_reasons")  # older drivers only have the second name
_ASKED = """
import msgspec
from embedge import cuda
from embedge.errors import Unavailable
try:
    found = cuda.choose().gpu()
except Unavailable as error:
    found = error.message
print(msgspec.json.encode(found).decode())
"""
_SHARERS = 3


def gpus(machine: Machine) -> Iterator[Finding]:
    """Report the driver, the GPUs, and the processes in their memory. A Jetson's driver comes with JetPack."""
    if machine.jetson:
        yield _integrated(machine)
        return
    try:
        lines = _smi(machine, f"--query-gpu={_FIELDS}")
    except FileNotFoundError:
        how = "with an NVIDIA GPU, install its driver: 580 or newer for CUDA 13"
        yield Finding("gpu", "no NVIDIA driver is here", "missing", how)
        return
    for index, name, capability, driver, free, total in lines:
        yield Finding("gpu", f"{index}: {name}, SM {capability}, {free} of {total} MiB free, driver {driver}")
        yield from _old(driver)
    for pid, process, used in _smi(machine, f"--query-compute-apps={_USERS}"):
        yield Finding("gpu", f"{used} MiB are held by {process}, process {pid}")


def throttling(machine: Machine) -> Iterator[Finding]:
    """Warn of a throttled server GPU."""
    if machine.jetson:
        return
    try:
        lines = _reasons(machine)
    except FileNotFoundError:
        return
    for index, *states in lines:
        active = [name for name, state in zip(_REASONS, states, strict=True) if state == "Active"]
        if active:
            how = "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER tells more; figures taken now mean little"
            yield Finding("heat", f"GPU {index} is held back: {', '.join(active)}", "warning", how)


def sharers(machine: Machine) -> Iterator[Finding]:
    """Report the largest users of a Jetson's memory, shared by CPU and GPU."""
    if not machine.jetson:
        return
    clients = machine.read("sys/kernel/debug/nvmap/iovmm/clients")  # root alone may read it
    if clients:
        rows = [line.split() for line in clients.splitlines()]
        held = [(int(row[3][:-1]), row[1], row[2]) for row in rows if len(row) == 4 and row[3][:-1].isdigit()]
        where, how = "GPU memory", ""
    else:
        lines = machine.run(["ps", "-eo", "rss=,pid=,comm="]).splitlines()
        held = [(int(size), name, pid) for size, pid, name in (line.split(None, 2) for line in lines)]
        where, how = "memory", "as root, the doctor tells who holds what of it on the GPU"
    most = sorted(held, reverse=True)[:_SHARERS]
    told = ", ".join(f"{name} ({pid}) {size / 2**20:.2f} GiB" for size, name, pid in most)
    if told:
        yield Finding("memory", f"most {where} is held by {told}", help=how)


def _integrated(machine: Machine) -> Finding:
    """Describe a Jetson's GPU, or the reason it can't be reached."""
    told: Gpu | str = msgspec.json.decode(machine.run(python(_ASKED)), type=Gpu | str)
    if isinstance(told, str):
        return Finding("gpu", told, "missing")
    capability = ".".join(map(str, told.capability))
    size = f"{told.memory / 2**30:.1f} GiB{' shared with the CPU' if told.integrated else ''}"
    text = f"{told.name}, SM {capability}, {told.multiprocessors} multiprocessors, {size}"
    return Finding("gpu", f"{text}, driver for CUDA {told.driver // 1000}.{told.driver % 1000 // 10}")


def _smi(machine: Machine, query: str) -> list[list[str]]:
    """Return the rows of an nvidia-smi query. Raises FileNotFoundError without nvidia-smi."""
    lines = machine.run(["nvidia-smi", query, "--format=csv,noheader,nounits"]).splitlines()
    return [[word.strip() for word in line.split(",")] for line in lines]


def _reasons(machine: Machine) -> list[list[str]]:
    newer, older = (f"--query-gpu=index,{','.join(f'{each}.{name}' for name in _REASONS)}" for each in _FAMILIES)
    try:
        return _smi(machine, newer)
    except RuntimeError:
        return _smi(machine, older)


def _old(driver: str) -> Iterator[Finding]:
    major = int(driver.partition(".")[0])
    for least, version in _DRIVERS:
        if major < least:
            text = f"driver {driver} is too old for libraries of CUDA {version}, which need {least} or newer"
            yield Finding("driver", text, "warning", f"install driver {least} or newer")
            return

"""The environment of a benchmark: machine, packages, clocks and power mode."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from embedge.backends.cores import cores
from embedge_bench import energy
from embedge_bench.results import Environment

__all__ = ["environment"]

_PACKAGES = (
    "embedge",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "tokenizers",
    "grpcio",
    "tensorrt",
    "httpx2",
    "psutil",
)
_CPU = Path("/sys/devices/system/cpu")


def environment() -> Environment:
    """Look around."""
    import psutil

    counter = energy.find()
    return Environment(
        cpu=_cpu(),
        cores=cores(),
        memory=int(psutil.virtual_memory().total),
        system=_system(),
        python=platform.python_version(),
        packages=_packages(),
        clock=_facts(
            {
                "governor": _CPU / "cpu0/cpufreq/scaling_governor",
                "highest frequency (kHz)": _CPU / "cpu0/cpufreq/scaling_max_freq",
                "boost": _CPU / "cpufreq/boost",
                "turbo off": _CPU / "intel_pstate/no_turbo",
            }
        ),
        power=_facts({"Jetson power mode": Path("/var/lib/nvpmodel/status"), "board": Path("/proc/device-tree/model")}),
        energy=counter.name if counter else None,
        accelerators=_accelerators(),
    )


def _cpu() -> str:
    """Return the CPU's name; on ARM the kernel has no name, but a part number."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    part = f"{platform.machine()} part {facts['CPU part']}" if "CPU part" in facts else ""
    return facts.get("model name") or part or platform.processor() or platform.machine()


def _system() -> str:
    name = ""
    with suppress(OSError, AttributeError):  # AttributeError: Python 3.9 and systems other than Linux
        name = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return f"{name or platform.system()}, {platform.system()} {platform.release()} {platform.machine()}"


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _facts(files: dict[str, Path]) -> dict[str, str]:
    found = {}
    for name, file in files.items():
        with suppress(OSError, UnicodeDecodeError):
            found[name] = file.read_text().strip().strip("\0")
    return found


def _accelerators() -> tuple[str, ...]:
    try:
        import pynvml
    except ImportError:
        return ()
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(handle)) for handle in handles)
    return ()

"""Energy counters of the machine, where it exposes one: RAPL, NVML, or the INA sensors of a Jetson."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Energy", "find"]

_POWERCAP = Path("/sys/class/powercap")
_HWMON = Path("/sys/class/hwmon")


@dataclass(slots=True)
class Energy:
    """One counter, named; `read` gives joules since some moment. `tick` is called now and then while work runs."""

    name: str
    read: Callable[[], float]
    tick: Callable[[], None] = lambda: None


def find(*, powercap: Path = _POWERCAP, hwmon: Path = _HWMON) -> Energy | None:
    """Return the readable counter with the widest view of the machine, or None."""
    return _ina(hwmon) or _joined([_nvml(), _rapl(powercap)])


def _joined(counters: list[Energy | None]) -> Energy | None:
    found = [counter for counter in counters if counter is not None]
    if not found:
        return None
    return Energy(" + ".join(counter.name for counter in found), lambda: sum(counter.read() for counter in found))


def _rapl(root: Path) -> Energy | None:
    """Intel's and AMD's counter: microjoules of each CPU package, which wrap around."""
    files = [zone / "energy_uj" for zone in sorted(root.glob("intel-rapl:?"))]
    packages = [_Wrapping(file) for file in files if _readable(file)]
    if not packages:
        return None
    return Energy("RAPL", lambda: sum(package.joules() for package in packages))


class _Wrapping:
    """A counter of microjoules, wrapping at its range."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._range = int((file.parent / "max_energy_range_uj").read_text())
        self._last = int(file.read_text())
        self._turns = 0

    def joules(self) -> float:
        now = int(self._file.read_text())
        self._turns += now < self._last
        self._last = now
        return (now + self._turns * self._range) / 1e6


def _nvml() -> Energy | None:
    """NVIDIA's counter: millijoules of each GPU since its driver was loaded (Volta and later)."""
    try:
        import pynvml
    except ImportError:
        return None
    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        for gpu in gpus:
            pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
        if gpus:
            return Energy("NVML", lambda: sum(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) for gpu in gpus) / 1e3)
    return None


def _ina(root: Path) -> Energy | None:
    """A Jetson's sensors: millivolt and milliampere of the whole board's rail (VDD_IN), summed up over time."""
    for label in sorted(root.glob("*/in*_label")):
        number = label.name.removeprefix("in").removesuffix("_label")
        volt, ampere = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
        if label.read_text().strip() == "VDD_IN" and _readable(volt) and _readable(ampere):
            return _board(volt, ampere)
    return None


def _board(millivolt: Path, milliampere: Path) -> Energy:
    sensor = _Integral(lambda: int(millivolt.read_text()) * int(milliampere.read_text()) / 1e6)
    return Energy("INA VDD_IN", sensor.joules, sensor.tick)


class _Integral:
    """Joules from a reading of watts, summed up at every tick. Ticked and read by one thread at a time."""

    def __init__(self, watts: Callable[[], float]) -> None:
        self._watts = watts
        self._joules = 0.0
        self._last = (time.monotonic(), watts())

    def tick(self) -> None:
        now = (time.monotonic(), self._watts())
        self._joules += (now[0] - self._last[0]) * (now[1] + self._last[1]) / 2
        self._last = now

    def joules(self) -> float:
        self.tick()
        return self._joules


def _readable(file: Path) -> bool:
    try:
        return bool(file.read_text().strip())
    except OSError:
        return False

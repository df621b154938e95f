"""Energy counters, played by files like those of the kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedge_bench import energy


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_nvml", lambda: None)


def package(root: Path, number: int, microjoules: int, largest: int = 1000) -> Path:
    zone = root / f"intel-rapl:{number}"
    zone.mkdir(parents=True)
    (zone / "max_energy_range_uj").write_text(f"{largest}\n")
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    return zone / "energy_uj"


def test_rapl_adds_packages_and_survives_the_turn_of_a_counter(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 900), package(tmp_path, 1, 100)
    counter = energy.find(powercap=tmp_path, hwmon=tmp_path)
    assert counter is not None
    assert counter.name == "RAPL"
    before = counter.read()
    first.write_text("50\n")  # 150 on from 900, past the range of 1000
    second.write_text("300\n")
    assert (counter.read() - before) * 1e6 == pytest.approx(350)


def test_jetsons_board_rail_is_summed_up_over_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = tmp_path / "hwmon3"
    sensor.mkdir()
    for name, value in {
        "in2_label": "VDD_CPU",
        "in1_label": "VDD_IN",
        "in1_input": "5000",
        "curr1_input": "2000",
    }.items():
        (sensor / name).write_text(f"{value}\n")
    now = 0.0
    monkeypatch.setattr(energy.time, "monotonic", lambda: now)
    counter = energy.find(powercap=tmp_path, hwmon=tmp_path)
    assert counter is not None
    now = 2.0
    counter.tick()
    (sensor / "curr1_input").write_text("4000\n")
    now = 4.0
    assert counter.read() == pytest.approx(2 * 10 + 2 * 15)


def test_machine_without_a_counter_has_none(tmp_path: Path) -> None:
    assert energy.find(powercap=tmp_path, hwmon=tmp_path) is None

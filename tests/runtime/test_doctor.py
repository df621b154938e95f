"""The doctor at machines that are not here: boards, servers, a laptop, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from embedge import cli, doctor
from embedge.doctor import Machine, libraries
from embedge.doctor import machine as machines
from tests.runtime.boards import CPU, GPU, machine, meminfo, release, states, told


@pytest.fixture
def nano(tmp_path: Path) -> Machine:
    """An Orin Nano of 8 GB as it comes: no swap, a venv that does not see JetPack, 15 W, TensorRT 10.3."""
    files = release(36, "4.3") | meminfo(7) | {"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"}
    files |= {"venv/pyvenv.cfg": "include-system-site-packages = false\n"}
    files |= {
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "624750000",
    }
    modes = "".join(
        f"< POWER_MODEL ID={place} NAME={name} >\n" for place, name in enumerate(("15W", "25W", "MAXN_SUPER"))
    )
    packages = {"onnxruntime": "1.23.2", "tensorrt": "10.3.0", "cuda-bindings": "12.9.10"}
    commands = {"nvpmodel": "NVPM WARN: fan mode is not set!\nNV Power Mode: 15W\n0", "cuda.choose()": GPU}
    return machine(tmp_path, files | {"etc/nvpmodel.conf": modes}, commands, packages)


def test_an_orin_nano_as_it_comes(nano: Machine) -> None:
    report = doctor.examine(nano)
    assert told(report, "board")[0].text == "NVIDIA Jetson Orin Nano, L4T 36.4.3, JetPack 6.2"
    assert states(report) == {
        "environment": "warning",
        "swap": "warning",
        "tensorrt": "warning",
        "power": "missing",
    }
    assert "embedge build" in told(report, "tensorrt")[0].help
    assert "--system-site-packages" in told(report, "environment")[0].help
    assert told(report, "power")[0].help.startswith("sudo nvpmodel -m 2 is MAXN_SUPER,")
    assert told(report, "clocks")[0].text == "GPU at 306 of 625 MHz"


@pytest.mark.parametrize(("version", "model"), [("10.16.1", "AGX Orin"), ("11.4.1", "AGX Thor")])
def test_boards_on_jetpack_7_have_nothing_to_mend(tmp_path: Path, version: str, model: str) -> None:
    files = release(39, "2.0") | meminfo(61, 8) | {"proc/device-tree/model": f"NVIDIA Jetson {model}"}
    packages = {"onnxruntime": "1.31.1", "tensorrt": version, "cuda-bindings": "13.5.0"}
    report = doctor.examine(
        machine(tmp_path, files, {"nvpmodel": "NV Power Mode: MAXN\n0", "cuda.choose()": GPU}, packages)
    )
    assert states(report) == {}
    assert "JetPack 7.2" in told(report, "board")[0].text


@pytest.mark.parametrize(
    ("revision", "package", "told_as"),
    [("4.3", "6.2.1+b38", "JetPack 6.2.1"), ("4.4", "", "JetPack 6.2.1"), ("9.9", "", "JetPack 6")],
    ids=["the package says it", "the release says it", "a release that nobody has heard of"],
)
def test_the_point_of_jetpack(tmp_path: Path, revision: str, package: str, told_as: str) -> None:
    missing = RuntimeError("dpkg-query: no packages found matching nvidia-jetpack")
    there = machine(tmp_path, release(36, revision), {"dpkg-query": package or missing})
    assert told(doctor.examine(there), "board")[0].text == f"Jetson, L4T 36.{revision}, {told_as}"


def test_a_board_whose_modes_have_no_maxn_has_none_to_choose(tmp_path: Path) -> None:
    files = release(36, "3.0") | {"etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=7W >"}
    (found,) = told(doctor.examine(machine(tmp_path, files, {"nvpmodel": "NV Power Mode: 15W\n0"})), "power")
    assert (found.text, found.state) == ("mode 15W", "ok")


def test_of_two_modes_without_limits_the_larger_is_named(tmp_path: Path) -> None:
    modes = "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >"
    there = machine(tmp_path, release(36, "4.3") | {"etc/nvpmodel.conf": modes}, {"nvpmodel": "NV Power Mode: 15W\n1"})
    assert "-m 2 is MAXN_SUPER" in told(doctor.examine(there), "power")[0].help


def test_a_throttling_board_is_told_of_but_a_running_fan_is_not(tmp_path: Path) -> None:
    thermal = "sys/class/thermal/"
    files = release(36, "4.3") | meminfo(61) | {f"{thermal}thermal_zone0/temp": "99000"}
    files |= {f"{thermal}cooling_device0/type": "pwm-fan", f"{thermal}cooling_device0/cur_state": "3"}
    there = machine(tmp_path, files, {"nvpmodel": "NV Power Mode: MAXN\n0"})
    assert [each.state for each in told(doctor.examine(there), "heat")] == ["ok"]
    more = {f"{thermal}cooling_device1/type": "gpu-throttle-alert", f"{thermal}cooling_device1/cur_state": "1"}
    there = machine(tmp_path, more, {"nvpmodel": "NV Power Mode: MAXN\n0"})
    (hot,) = told(doctor.examine(there), "heat")
    assert hot.state == "warning"
    assert "gpu-throttle-alert" in hot.text
    assert "99 °C" in hot.text


def test_a_plain_laptop(tmp_path: Path) -> None:
    report = doctor.examine(machine(tmp_path, meminfo(16), packages={"onnxruntime": "1.31.1"}))
    assert report.backend == "onnxruntime 1.31.1"
    assert states(report) == {"gpu": "missing", "tensorrt": "missing", "cuda": "missing"}
    assert all(finding.help for finding in report.findings if finding.state == "missing")


def test_two_onnxruntimes_and_an_unknown_tensorrt_are_warned_of(tmp_path: Path) -> None:
    packages = {"onnxruntime": "1.31.1", "onnxruntime-gpu": "1.31.1", "tensorrt": "12.0.0"}
    report = doctor.examine(machine(tmp_path, packages=packages))
    assert states(report)["onnxruntime"] == states(report)["tensorrt"] == "warning"


def test_what_fails_or_hangs_is_a_line(nano: Machine, tmp_path: Path) -> None:
    broken = {"nvpmodel": TimeoutError("nvpmodel gave no answer within 30 s"), "get_available": RuntimeError("crashed")}
    there = machine(tmp_path, {}, broken, {"onnxruntime": "1"}, choice=RuntimeError("python: Segmentation fault"))
    report = doctor.examine(there)
    assert states(report)["power"] == states(report)["onnxruntime"] == "failed"
    assert (report.backend, report.reason) == ("", "choosing failed: python: Segmentation fault")


def test_a_cache_that_is_a_file_away_from_being_there(tmp_path: Path) -> None:
    (found,) = told(doctor.examine(machine(tmp_path)), "cache")
    assert str(tmp_path / "cache") in found.text


@pytest.mark.parametrize(("choice", "code"), [(CPU, 0), (json.dumps(["", "no backend can run here"]), 1)])
def test_the_exit_code_says_whether_anything_can_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    choice: str,
    code: int,
) -> None:
    monkeypatch.setattr(doctor, "here", lambda: machine(tmp_path, choice=choice))
    assert cli._run(["doctor"]) == code
    assert "backend:" in capsys.readouterr().out
    assert cli._run(["doctor", "--json"]) == code
    shown = json.loads(capsys.readouterr().out)
    assert bool(shown["backend"]) is (code == 0)
    assert {"topic", "text", "state", "help"} == set(shown["findings"][0])


def test_modules_of_the_working_directory_are_nobodys_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise SystemExit('a module of the working directory')")
    monkeypatch.chdir(tmp_path)
    assert "CPUExecutionProvider" in doctor.here().run(machines.python(libraries._PROVIDERS))


def test_this_machine_is_asked_with_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_SECONDS", 0.05)
    there = doctor.here()
    with pytest.raises(TimeoutError, match="no answer"):
        there.run([sys.executable, "-c", "import threading; threading.Event().wait(60)"])
    monkeypatch.setattr(machines, "_SECONDS", 30)
    with pytest.raises(RuntimeError, match="no luck"):
        there.run([sys.executable, "-c", "raise SystemExit('no luck')"])
    with pytest.raises(RuntimeError, match="crashed with SIGKILL"):
        there.run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    with pytest.raises(FileNotFoundError):
        there.run(["no-such-command"])
    assert there.version("numpy")
    assert not there.finds("no_such_module")

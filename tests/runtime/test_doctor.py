"""The doctor at machines that are not here: boards, servers, a laptop, and what is wrong with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from embedge import cli, doctor
from embedge.doctor import Finding, Machine, Report
from embedge.doctor import machine as machines

CPU = json.dumps(["onnxruntime 1.31.1", "onnxruntime is the first in order that can run here"])


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


@pytest.fixture
def nano(tmp_path: Path) -> Machine:
    """An Orin Nano of 8 GB as it comes: no swap, a venv that does not see JetPack, 15 W, TensorRT 10.3."""
    files = release(36, "4.3") | meminfo(7) | {"proc/device-tree/model": "NVIDIA Jetson Orin Nano\0"}
    files |= {"venv/pyvenv.cfg": "include-system-site-packages = false\n"}
    files |= {
        "sys/class/devfreq/17000000.gpu/cur_freq": "306000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "624750000",
    }
    packages = {"onnxruntime": "1.23.2", "tensorrt": "10.3.0", "cuda-python": "12.6.2"}
    return machine(tmp_path, files, {"nvpmodel": "NV Power Mode: 15W\n0"}, packages)


def test_an_orin_nano_as_it_comes(nano: Machine) -> None:
    report = doctor.examine(nano)
    assert told(report, "board")[0].text == "NVIDIA Jetson Orin Nano, L4T 36.4.3, JetPack 6"
    assert states(report) == {
        "environment": "warning",
        "swap": "warning",
        "tensorrt": "warning",
        "power": "missing",
    }
    assert "embedge build" in told(report, "tensorrt")[0].help
    assert "--system-site-packages" in told(report, "environment")[0].help
    assert told(report, "clocks")[0].text == "GPU at 306 of 625 MHz"


@pytest.mark.parametrize(("version", "model"), [("10.16.1", "AGX Orin"), ("11.4.1", "AGX Thor")])
def test_boards_on_jetpack_7_have_nothing_to_mend(tmp_path: Path, version: str, model: str) -> None:
    files = release(39, "2.0") | meminfo(61, 8) | {"proc/device-tree/model": f"NVIDIA Jetson {model}"}
    packages = {"onnxruntime": "1.31.1", "tensorrt": version, "cuda-python": "13.5.0"}
    report = doctor.examine(machine(tmp_path, files, {"nvpmodel": "NV Power Mode: MAXN\n0"}, packages))
    assert states(report) == {}
    assert "JetPack 7" in told(report, "board")[0].text


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


@pytest.mark.parametrize(("driver", "needs"), [("470.256", "525"), ("550.54", "580"), ("580.65", "")])
def test_a_server_and_the_age_of_its_driver(tmp_path: Path, driver: str, needs: str) -> None:
    commands = {"--query-gpu": f"0, NVIDIA L4, 8.9, {driver}, 20000, 23034", "compute-apps": "77, python, 2000 MiB"}
    report = doctor.examine(machine(tmp_path, meminfo(64), commands, {"onnxruntime-gpu": "1.31.1"}))
    assert "NVIDIA L4, SM 8.9, 20000 of 23034 MiB free" in told(report, "gpu")[0].text
    assert told(report, "gpu")[1].text == "used by 77, python, 2000 MiB"
    assert [each.help for each in told(report, "driver")] == ([f"install driver {needs} or newer"] if needs else [])


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


def test_this_machine_is_asked_with_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_SECONDS", 0.05)
    there = doctor.here()
    with pytest.raises(TimeoutError, match="no answer"):
        there.run([sys.executable, "-c", "import threading; threading.Event().wait(60)"])
    monkeypatch.setattr(machines, "_SECONDS", 30)
    with pytest.raises(RuntimeError, match="no luck"):
        there.run([sys.executable, "-c", "raise SystemExit('no luck')"])
    with pytest.raises(FileNotFoundError):
        there.run(["no-such-command"])
    assert there.version("numpy")
    assert not there.finds("no_such_module")

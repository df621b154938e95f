"""The doctor at GPUs: which there are, who holds their memory, what slows them, and which plans are for them."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from embedge import __version__, doctor
from embedge.backends.tensorrt.plans.key import BuildDevice
from embedge.backends.tensorrt.plans.store import PlanStore
from embedge.doctor import gpus, libraries, plans
from tests.runtime.boards import GPU, ORIN, machine, meminfo, release, states, told
from tests.runtime.plans.made import kept, key

SITE = Path(__file__).parents[1] / "simulated" / "site"
NVMAP = "sys/kernel/debug/nvmap/iovmm/clients"
L4 = "0, NVIDIA L4, 8.9, 580.65, 20000, 23034"


@pytest.mark.parametrize(("driver", "needs"), [("470.256", "525"), ("550.54", "580"), ("580.65", "")])
def test_a_server_and_the_age_of_its_driver(tmp_path: Path, driver: str, needs: str) -> None:
    commands = {"--query-gpu=index,name": f"0, NVIDIA L4, 8.9, {driver}, 20000, 23034", "clocks_": "0" + ", 0" * 5}
    commands |= {"compute-apps": "77, python, 2000"}
    report = doctor.examine(machine(tmp_path, meminfo(64), commands, {"onnxruntime": "1.31.1"}))
    assert "NVIDIA L4, SM 8.9, 20000 of 23034 MiB free" in told(report, "gpu")[0].text
    assert told(report, "gpu")[1].text == "2000 MiB are held by python, process 77"
    assert [each.help for each in told(report, "driver")] == ([f"install driver {needs} or newer"] if needs else [])


@pytest.mark.parametrize("old", [False, True], ids=["this driver", "one that knows the older names"])
def test_a_server_that_is_held_back(tmp_path: Path, old: bool) -> None:
    slow = "0, Not Active, Not Active, Not Active, Not Active, Active\n1" + ", Not Active" * 5
    newer: str | Exception = RuntimeError("nvidia-smi: not a valid field to query") if old else slow
    commands: dict[str, str | Exception] = {"index,name": L4, "compute-apps": ""}
    commands |= {"clocks_event": newer, "clocks_throttle": slow}
    (found,) = told(doctor.examine(machine(tmp_path, commands=commands)), "heat")
    assert (found.text, found.state) == ("GPU 0 is held back: sw_power_cap", "warning")


def test_a_jetsons_gpu_is_told_as_its_driver_tells_it(tmp_path: Path) -> None:
    (found,) = gpus.gpus(machine(tmp_path, release(36, "4.3"), {"cuda.choose()": GPU}))
    assert found.text == "Orin, SM 8.7, 8 multiprocessors, 8.0 GiB shared with the CPU, driver for CUDA 12.6"
    (found,) = gpus.gpus(machine(tmp_path, release(36, "4.3")))
    assert (found.text, found.state) == ("no GPU can be used here", "missing")


def test_who_holds_a_jetsons_memory(tmp_path: Path) -> None:
    there = machine(tmp_path, release(36, "4.3"), {"ps -eo": "  1048576  7 Xorg\n 524288 9 a b\n 1 2 c\n 0 1 d"})
    (found,) = gpus.sharers(there)
    assert found.text == "most memory is held by Xorg (7) 1.00 GiB, a b (9) 0.50 GiB, c (2) 0.00 GiB"
    assert "as root" in found.help
    clients = "CLIENT PROCESS PID SIZE\nuser python3 1234 2097152K\nuser Xorg 7 1024K\ntotal 2098176K"
    (found,) = gpus.sharers(machine(tmp_path, {NVMAP: clients}))
    assert found.text == "most GPU memory is held by python3 (1234) 2.00 GiB, Xorg (7) 0.00 GiB"
    assert not list(gpus.sharers(machine(tmp_path / "server")))


@pytest.mark.parametrize(
    ("answer", "packages", "text", "state"),
    [
        ("91201", {"nvidia-cudnn-cu13": "9.12.1.5"}, "9.12.1 (nvidia-cudnn-cu13 9.12.1.5)", "ok"),
        ("90300", {}, "9.3.0 (of the system)", "ok"),
        ("libcudnn.so.9: cannot open", {}, "onnxruntime-gpu needs cuDNN 9: libcudnn.so.9: cannot open", "missing"),
    ],
)
def test_the_cudnn_that_onnxruntime_would_find(
    tmp_path: Path, answer: str, packages: dict[str, str], text: str, state: str
) -> None:
    there = machine(tmp_path, commands={"libcudnn": answer}, packages=packages | {"onnxruntime-gpu": "1.31.1"})
    (found,) = libraries.cudnn(there)
    assert (found.text, found.state, bool(found.help)) == (text, state, state == "missing")
    assert not list(libraries.cudnn(machine(tmp_path)))


def test_a_search_for_cudnn_ends_with_its_number_or_the_reason() -> None:
    said = doctor.here().run([sys.executable, "-c", libraries._CUDNN])
    assert said.isdigit() or "libcudnn" in said


def test_plans_that_nothing_here_can_use_are_counted(tmp_path: Path) -> None:
    files = release(36, "4.3") | {"var/lib/nvpmodel/status": "pmode:0002"}
    there = machine(tmp_path, files, {"library.version()": f'["10.3.0.30", {GPU}]'})
    assert not list(plans.plans(there))
    store = PlanStore(tmp_path / "cache" / "plans")
    device = BuildDevice.here(ORIN, tmp_path)
    kept(store, key(device=device))
    kept(store, key(device=BuildDevice.here(replace(ORIN, name="Thor"), tmp_path)))  # for another GPU: it stays
    (found,) = plans.plans(there)
    assert (found.text[:2], found.help) == ("2 ", "")
    kept(store, key(device=device, embedge=f"{__version__}.other"), b"x" * (1 << 20))
    damaged = kept(store, key("damaged", device=device))
    (damaged.folder / "record.json").write_text("{}")
    (found,) = plans.plans(there)
    assert found.text.startswith("4 (1.0 MiB) in the cache; 2 (1.0 MiB) of it for other versions")
    assert found.help == "embedge build --prune removes them"
    (unknown,) = plans.plans(machine(tmp_path))
    assert (unknown.text.startswith("4 "), unknown.help) == (True, "")


def test_plans_that_others_could_have_written_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "cache" / "plans").mkdir(parents=True)
    (tmp_path / "cache" / "plans").chmod(0o777)
    assert states(doctor.examine(machine(tmp_path)))["plans"] == "warning"


def test_what_runs_in_a_process_of_its_own_understands_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"providers": ["cuda-python"], "tensorrt": "11.4.0", "device": {"name": "Orin"}}
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps(settings))
    version, gpu = msgspec.json.decode(doctor.here().run([sys.executable, "-c", plans._HERE]))
    assert (version[:4], gpu["name"]) == ("11.4", "Orin")
    assert msgspec.json.decode(doctor.here().run([sys.executable, "-c", gpus._ASKED])) == gpu
    monkeypatch.setenv("EMBEDGE_SIMULATED", "{}")
    assert doctor.here().run([sys.executable, "-c", plans._HERE]) == "null"
    assert "no GPU can be used here" in doctor.here().run([sys.executable, "-c", gpus._ASKED])

"""What keeps a GPU from being used is told apart, each with its way out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from embedge import cuda
from embedge.errors import NotFound, Unavailable
from tests.runtime.cuda.rig import provider
from tests.simulated.errors import Failure
from tests.simulated.fixtures import Simulate
from tests.simulated.install import PROVIDERS
from tests.simulated.machine import Device, Machine

VISIBLE = "CUDA_VISIBLE_DEVICES"


@pytest.fixture(autouse=True)
def _any_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)


def refusing(code: str) -> Callable[[], NoReturn]:
    def init() -> NoReturn:
        raise Failure(code)

    return init


@pytest.mark.parametrize(("name", "extra"), [("cuda-python", "embedge[cuda]"), ("pycuda", "embedge[pycuda]")])
def test_not_installed(name: str, extra: str, simulate: Simulate) -> None:
    simulate()
    why = provider(name).missing()
    assert "is not installed; pip install" in why
    assert extra in why


def test_no_driver(name: str, simulate: Simulate) -> None:
    simulate(name, device=Device(installed=False))
    why = provider(name).missing()
    assert why.startswith("there is no NVIDIA driver (libcuda.so.1 cannot be loaded)")
    for way_out in ("nvidia-smi", "--gpus all", "--runtime nvidia"):
        assert way_out in why


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("libcuda.so.1: cannot open shared object file: No such file or directory", "there is no NVIDIA driver"),
        ("undefined symbol: cuFuncSetSharedMemConfig", "install it anew, against the CUDA that is here"),
    ],
)
def test_pycuda_that_cannot_be_imported(text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no driver, the real one fails at once, as it does where it was built against another CUDA."""
    (tmp_path / "pycuda").mkdir()
    (tmp_path / "pycuda" / "__init__.py").write_text("")
    (tmp_path / "pycuda" / "driver.py").write_text(f"raise ImportError({text!r})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "pycuda", raising=False)
    why = provider("pycuda").missing()
    del sys.modules["pycuda"]
    assert words in why
    assert text in why


@pytest.mark.parametrize(
    ("name", "way_out"), [("cuda-python", "pip install 'cuda-bindings==12.*'"), ("pycuda", "headers of CUDA 12")]
)
def test_driver_too_old(name: str, way_out: str, simulate: Simulate) -> None:
    simulate(name, device=Device(driver=12040))
    why = provider(name).missing()
    assert "the NVIDIA driver supports CUDA 12.4, and" in why
    assert "is for CUDA 13: update the driver, or" in why
    assert way_out in why


def test_a_driver_of_the_same_major_version_is_new_enough(simulate: Simulate, name: str) -> None:
    simulate(name, device=Device(driver=13000))
    assert provider(name).missing() == ""


@pytest.mark.parametrize(("version", "fine"), [("12.6.2", False), ("12.9.0", False), ("12.9.1", True)])
def test_bindings_that_hold_all_threads_are_refused(
    version: str, fine: bool, simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("cuda-python")
    monkeypatch.setattr(sys.modules["cuda.bindings"], "__version__", version)
    why = provider("cuda-python").missing()
    assert fine is (why == "")
    assert fine or ("is too old: before 12.9.1, all threads stand still" in why and "embedge[cuda]" in why)


@pytest.mark.parametrize("hidden", [None, "", "-1"])
def test_no_gpu_is_visible(name: str, hidden: str | None, simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(name, device=Device(count=0))
    if hidden is not None:
        monkeypatch.setenv(VISIBLE, hidden)
    why = provider(name).missing()
    if hidden is None:
        assert "sees no GPU" in why
        assert "nvidia-smi" in why
    else:
        assert why.startswith(f"no GPU is visible: {VISIBLE}={hidden};")
        assert "nvidia-smi -L" in why


@pytest.mark.parametrize("index", [2, -1])
def test_a_wrong_device_number(name: str, index: int, simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(name, device=Device(count=2))
    why = provider(name, index).missing()
    assert why.startswith(f"there is no GPU {index}: this process sees 2, counted from 0;")
    monkeypatch.setenv(VISIBLE, "0,1")
    assert f"{VISIBLE}=0,1" in provider(name, index).missing()
    assert provider(name, 1).missing() == ""


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("CUDA_ERROR_OPERATING_SYSTEM", "/dev/nvidia"),
        ("CUDA_ERROR_STUB_LIBRARY", "LD_LIBRARY_PATH"),
        ("CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "restart the machine"),
        ("CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", "cuda-compat"),
        ("CUDA_ERROR_UNKNOWN", "dmesg"),
        ("CUDA_ERROR_NOT_SUPPORTED", "does not start"),
    ],
)
def test_a_driver_that_does_not_start(
    name: str, code: str, words: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "init", refusing(code))
    why = provider(name).missing()
    assert why.startswith("the NVIDIA driver does not start: ")
    assert words in why


def test_the_first_that_can_run_is_chosen(simulate: Simulate) -> None:
    simulate(*PROVIDERS)
    assert cuda.choose().name == "cuda-python"
    assert cuda.choose("pycuda").name == "pycuda"
    assert cuda.choose() is cuda.choose("cuda-python")  # one object, so that the context is retained once


def test_pycuda_is_chosen_where_the_other_is_not_there(simulate: Simulate) -> None:
    simulate("pycuda")
    assert cuda.choose().name == "pycuda"


def test_where_none_can_run_every_reason_is_told(simulate: Simulate) -> None:
    simulate("pycuda", device=Device(count=1))
    with pytest.raises(Unavailable, match=r"cuda-python: cuda-bindings is not installed.*; pycuda: there is no GPU 3"):
        cuda.choose(device=3)
    with pytest.raises(Unavailable, match="cuda-python: cuda-bindings is not installed"):
        cuda.choose("cuda-python")


def test_an_unknown_name_is_told_what_there_is() -> None:
    with pytest.raises(NotFound, match="choose one of auto, cuda-python, pycuda"):
        cuda.choose("cupy")

"""The real libraries, read once a session, and a place to check our code against them."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.conformance import checker, cython, native, pybind, stubs, views
from tests.conformance.api import Module, read
from tests.conformance.views import View

Check = Callable[[Module, str, Iterable[tuple[View, str | None]]], checker.Report]


def _need(package: str) -> Path:
    """Return where a package is. Where it has a wheel it must be installed: a check that is skipped cannot fail."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip(f"{package} is installed for tests on Linux on x86-64 only; this is {platform.platform()}")
    if sys.version_info < (3, 11):
        pytest.skip(f"{package} is installed for tests on Python 3.11 and later only")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        pytest.fail(f"{package} is not installed: pip install -c constraints.txt -e '.[test]'")
    return Path(spec.submodule_search_locations[0])


@pytest.fixture(scope="session")
def newest_tensorrt(tmp_path_factory: pytest.TempPathFactory) -> Module:
    """The TensorRT bindings that are installed. Needs gcc and binutils, and no GPU."""
    extension = _need("tensorrt_bindings") / "tensorrt.so"
    for tool in ("gcc", "nm", "readelf"):
        if shutil.which(tool) is None:
            pytest.fail(f"{tool} is needed to read TensorRT's classes without TensorRT: apt install gcc binutils")
    raw = native.read("tensorrt_bindings", tmp_path_factory.mktemp("libraries"), extension)
    return pybind.module(raw, "installed")


@pytest.fixture(scope="session")
def newest_cuda(tmp_path_factory: pytest.TempPathFactory) -> Module:
    """The cuda-bindings that are installed. Needs no driver."""
    _need("cuda.bindings")
    return cython.module(native.read("cuda.bindings.driver", tmp_path_factory.mktemp("nothing")), "installed")


@pytest.fixture(scope="session")
def newest_onnxruntime(tmp_path_factory: pytest.TempPathFactory) -> Module:
    """The ONNX Runtime that is installed; the one for GPUs has the same classes."""
    return pybind.module(native.read("onnxruntime", tmp_path_factory.mktemp("nothing")), "installed")


@pytest.fixture(scope="session")
def release(request: pytest.FixtureRequest) -> Callable[[str], Module]:
    """A release of a library by its name in the tests: the installed ones are `newest`, the others snapshots."""
    newest = {"tensorrt-newest": "newest_tensorrt", "cuda-bindings-newest": "newest_cuda"}
    newest["onnxruntime-newest"] = "newest_onnxruntime"
    return lambda name: request.getfixturevalue(newest[name]) if name in newest else read(name)


@pytest.fixture(scope="session")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """Check views against a module: each view of its own file, or of a source that stands for it."""
    folder = tmp_path_factory.mktemp("checked")

    def checked(module: Module, name: str, sources: Iterable[tuple[View, str | None]]) -> checker.Report:
        stub = folder / f"stubs-{name}-{module.version}"
        if not stub.exists():
            stubs.write(module, stub, name)
        place = folder / f"views{len(list(folder.glob('views*')))}"
        place.mkdir()
        written = [views.write(view, place, source, number) for number, (view, source) in enumerate(sources)]
        return checker.check(written, module, stub, folder / "cache")

    return checked

"""Each test here runs twice: on the GPU, where one is, and over a simulated one, which shows that the test is right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.gpu.cases import Case
from benchmarks.gpu.run import BACKENDS
from embedge import backends, cuda
from embedge.config import RuntimeConfig
from embedge.cuda import Driver
from embedge.errors import Unavailable
from tests.gpu.rig import SITE, tiny_case
from tests.simulated.fixtures import ORDERS, Simulate, simulate
from tests.simulated.install import PROVIDERS
from tests.simulated.onnxruntime_gpu import cuda_provider

__all__ = ["simulate"]

TENSORRT = "11.4.0"
REAL = pytest.param("real", marks=pytest.mark.gpu)


@dataclass(frozen=True)
class Gpu:
    """Where a test runs. provider: what gives CUDA."""

    real: bool
    provider: str

    @property
    def driver(self) -> Driver:
        """The driver. Skips the test where it cannot run."""
        try:
            return cuda.choose(self.provider)
        except Unavailable as error:
            pytest.skip(error.message)


@pytest.fixture(params=[REAL, *(f"{order} {seed}" for order, seed in ORDERS[:3:2])])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PROVIDERS)
def gpu(request: pytest.FixtureRequest, place: str, simulate: Simulate, site: None) -> Iterator[Gpu]:
    """A GPU through each library."""
    found = Gpu(place == "real", request.param)
    if found.real:
        _ = found.driver
        yield found
        return
    order, seed = place.split()
    machine = simulate(found.provider, tensorrt=TENSORRT, order=order, seed=int(seed))
    with cuda_provider(machine):
        yield found


@pytest.fixture
def site(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process that builds plans finds, which here are as good for one order of work as for another."""
    if place != "real":
        monkeypatch.setenv("PYTHONPATH", str(SITE))
        monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps({"providers": ["cuda-python"], "tensorrt": TENSORRT}))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, gpu: Gpu) -> str:
    """Each backend, where it can run."""
    name = str(request.param)
    try:
        backends.choose(RuntimeConfig(backend=name, cuda=gpu.provider))
    except Unavailable as error:
        pytest.skip(error.message)
    return name


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one tiny model in all precisions, as `prepare` makes it."""
    folder = tmp_path_factory.mktemp("gpu")
    tiny_case(folder / "tiny")
    return folder


@pytest.fixture(scope="session")
def case(cases: Path) -> Case:
    return Case("tiny", cases / "tiny")

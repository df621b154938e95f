"""The simulated modules have nothing that the real ones lack. Needs the real cuda-bindings, or pycuda's source."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType

import pytest

from tests.simulated import cuda_bindings, pycuda_driver
from tests.simulated.conformance import cuda_bindings_differences, pycuda_differences
from tests.simulated.machine import Machine


@pytest.fixture
def real() -> ModuleType:
    return pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed", exc_type=ImportError)


@pytest.fixture
def pycuda_source() -> Path:
    path = os.environ.get("EMBEDGE_PYCUDA_SOURCE", "")
    if not path:
        pytest.skip("EMBEDGE_PYCUDA_SOURCE does not say where pycuda's source is")
    return Path(path)


def test_cuda_bindings_are_as_the_real_ones(real: ModuleType) -> None:
    assert cuda_bindings_differences(cuda_bindings.build(Machine()), real) == []


def test_a_wrong_name_and_a_wrong_parameter_are_found(real: ModuleType) -> None:
    ours = cuda_bindings.build(Machine())
    ours.cuStreamMake = ours.cuStreamCreate
    ours.cuEventCreate = ours.cuEventRecord
    ours.CU_MEMHOSTALLOC_PORTABLE = 7
    found = cuda_bindings_differences(ours, real)
    assert sorted(each.split()[0] for each in found) == ["CU_MEMHOSTALLOC_PORTABLE", "cuEventCreate", "cuStreamMake"]


def test_pycuda_is_as_its_source_says(pycuda_source: Path) -> None:
    assert pycuda_differences(pycuda_driver.build(Machine()), pycuda_source) == []


def test_a_wrong_name_of_pycuda_is_found(pycuda_source: Path) -> None:
    ours = pycuda_driver.build(Machine())
    ours.Event.wait = ours.Event.synchronize
    assert pycuda_differences(ours, pycuda_source) == ["Event: wait"]

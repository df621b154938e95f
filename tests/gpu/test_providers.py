"""What our lanes ask of CUDA: that it is checked, and that a library which does it wrong is found out."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu import providers
from embedge.cuda import Driver
from tests.gpu.conftest import Gpu
from tests.simulated.fixtures import Simulate


def test_each_library_does_what_lanes_need(gpu: Gpu) -> None:
    found = providers.check(gpu.driver)
    assert found.said == ""
    assert found.good
    assert found.provider == gpu.provider
    assert found.captures == (gpu.provider == "cuda-python")


def test_the_device_is_named(gpu: Gpu) -> None:
    found = providers.device(gpu.driver)
    assert found.name
    assert found.memory > 0
    assert found.multiprocessors > 0


def test_a_library_that_copies_nothing_is_found_out(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate("cuda-python", order="eager")
    ((driver,), _) = providers.drivers()
    kept = type(driver).copy_out

    def wrong(self: Driver, to: object, source: int, nbytes: int, stream: object, **offset: int) -> None:
        kept(self, to, source + 256, nbytes - 256, stream, **offset)

    monkeypatch.setattr(type(driver), "copy_out", wrong)
    found = providers.check(driver)
    assert not found.good
    assert found.said == "what is copied in and out again is not what it was"


def test_an_error_of_cuda_is_told(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = simulate("cuda-python")
    ((driver,), _) = providers.drivers()
    machine.memory.taken = machine.device.memory
    found = providers.check(driver)
    assert not found.good
    assert "OUT_OF_MEMORY" in found.said


def test_what_is_not_here_is_told(simulate: Simulate) -> None:
    simulate("cuda-python")
    found, missing = providers.drivers()
    assert [driver.name for driver in found] == ["cuda-python"]
    (why,) = missing
    assert "pycuda is not installed" in why
    assert np.all([driver.gpu().name for driver in found])

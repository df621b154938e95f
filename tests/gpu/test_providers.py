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


@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_where_there_is_no_gpu_its_tests_are_skipped_with_the_reason(simulate: Simulate, provider: str) -> None:
    simulate()
    with pytest.raises(pytest.skip.Exception, match=f"no GPU can be used here: {provider}: .*pip install"):
        _ = Gpu(real=True, provider=provider).driver


def test_all_that_needs_a_gpu_is_marked(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        place = getattr(item, "callspec", None) and item.callspec.params.get("place")  # type: ignore[attr-defined]
        assert (place == "real") == (item.get_closest_marker("gpu") is not None) or "tests/gpu" not in str(item.path)

"""A kernel that goes wrong breaks the context for all. After a reset it is another, in which nothing old is freed."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import pytest

from embedge.cuda import CudaError, Driver
from embedge.cuda.driver import FATAL
from tests.runtime.cuda.rig import broken, in_thread, provider
from tests.simulated.fixtures import Simulate
from tests.simulated.machine import Machine


@pytest.mark.parametrize("code", FATAL)
def test_fatal_errors_are_known_by_name_and_every_call_has_them(machine: Machine, driver: Driver, code: str) -> None:
    broken(machine, driver, code)
    for call in (driver.stream, driver.event, driver.free_memory, lambda: driver.memory(64), lambda: driver.pinned(64)):
        with pytest.raises(CudaError) as info:
            call()
        assert (info.value.code, info.value.fatal) == (code, True)


@pytest.mark.parametrize("code", ["CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_INVALID_VALUE", "CUDA_ERROR_NOT_SUPPORTED"])
def test_other_errors_are_not_fatal(code: str) -> None:
    assert not CudaError(code).fatal


@pytest.mark.parametrize(("code", "words"), FATAL.items())
def test_messages_of_other_libraries_tell_of_fatal_errors(code: str, words: str) -> None:
    for text in (f"CUDA failure: {words} ; GPU=0", f"[executionContext.cpp] Error Code 1: Cuda Runtime ({code})"):
        told = CudaError.from_message(text)
        assert told is not None
        assert (told.code, told.fatal, told.message) == (code, True, text)
    assert CudaError.from_message("Failed to allocate memory for requested buffer of size 1024") is None


def test_closing_in_a_broken_context_is_no_error(
    machine: Machine, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    made = [driver.stream(), driver.event(), driver.memory(64), driver.pinned(64)]
    broken(machine, driver)
    with caplog.at_level(logging.DEBUG, "embedge.cuda"):
        for each in made:
            each.close()
            each.close()
    if driver.name == "cuda-python":  # pycuda's destructors tell nobody
        assert "memory was not given back: CUDA_ERROR_ILLEGAL_ADDRESS" in caplog.text


def test_an_error_in_closing_that_is_no_broken_context_is_raised(machine: Machine, driver: Driver) -> None:
    if driver.name == "pycuda":
        return  # which tells of none
    memory = driver.memory(64)

    def close() -> None:  # in a thread that did not enter
        with pytest.raises(CudaError):
            memory.close()

    in_thread(close)
    assert machine.forgive()
    assert [region.nbytes for region in machine.memory.alive()] == [64]
    machine.free(machine.memory.alive()[0].base)


def test_a_reset_begins_a_context_that_works(machine: Machine, driver: Driver) -> None:
    old = machine.contexts.primary
    broken(machine, driver)
    driver.leave()
    driver.reset()
    driver.enter()
    assert machine.contexts.primary is not old
    assert machine.contexts.primary is not None
    assert machine.contexts.primary.retained == 1
    driver.memory(64).close()


def test_a_reset_lets_go_of_the_old_context_even_if_another_library_holds_it(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = simulate("cuda-python")
    driver = provider("cuda-python")
    assert not driver.missing()
    driver.enter()
    machine.retain()  # TensorRT's
    broken(machine, driver)
    driver.leave()
    released: list[int] = []
    release = machine.release
    monkeypatch.setattr(machine, "release", lambda: (released.append(1), release()))
    driver.reset()
    assert released == [1]
    driver.enter()
    driver.memory(64).close()
    driver.leave()


def test_what_is_closed_after_the_reset_frees_nothing_of_the_new_context(machine: Machine, driver: Driver) -> None:
    """The new one may have given the same handle to somebody else."""
    old = [driver.stream(), driver.event(), driver.memory(64), driver.pinned(64)]
    broken(machine, driver)
    driver.leave()
    driver.reset()
    driver.enter()
    for each in old:
        each.close()
    assert machine.violations == []


def test_a_thread_that_entered_before_the_reset_leaves_and_enters_the_new_context(
    machine: Machine, driver: Driver
) -> None:
    def resets() -> None:
        driver.enter()
        broken(machine, driver)
        driver.leave()
        driver.reset()

    driver.enter()  # a second time, within the first
    in_thread(resets)
    driver.leave()
    driver.leave()
    driver.enter()
    driver.memory(64).close()


def test_a_gpu_that_stays_broken_is_told_with_the_way_out(
    machine: Machine, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where another library holds the context, too, or the device itself is lost."""
    broken(machine, driver)
    driver.leave()
    monkeypatch.setattr(machine, "reset", lambda: None)
    machine.retain()  # TensorRT's
    with pytest.raises(CudaError, match="restart the process") as info:
        driver.reset()
    assert (info.value.code, info.value.fatal) == ("CUDA_ERROR_ILLEGAL_ADDRESS", True)
    driver.enter()  # for the fixture to leave


def test_pycuda_cannot_reset_what_another_library_holds(simulate: Simulate) -> None:
    machine = simulate("pycuda")
    driver = provider("pycuda")
    assert not driver.missing()
    driver.enter()
    machine.retain()
    broken(machine, driver)
    driver.leave()
    with pytest.raises(CudaError, match=r"pip install 'embedge\[cuda\]'"):
        driver.reset()


def test_a_failure_that_is_kept_holds_nothing_of_pycuda(simulate: Simulate) -> None:
    """Its objects are freed when the last reference goes, which has to be while the context is there."""
    simulate("pycuda")
    driver: Any = provider("pycuda")
    assert not driver.missing()
    made = (each for each in ())  # like pycuda's, its methods are written in C and raise
    gone = weakref.ref(made)
    with pytest.raises(CudaError) as info:
        driver._ask(made.throw, driver._api.LogicError("cuEventRecord failed: invalid resource handle"))
    del made
    assert gone() is None
    assert info.value.code == "CUDA_ERROR_INVALID_HANDLE"

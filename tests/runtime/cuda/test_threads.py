"""Every thread that touches the GPU enters the one primary context, and leaves no trace."""

from __future__ import annotations

import threading

import pytest

from embedge.cuda import CudaError, Driver
from tests.runtime.cuda.rig import in_thread, provider
from tests.simulated.fixtures import Simulate
from tests.simulated.machine import Machine


def test_many_threads_share_one_context(machine: Machine, name: str) -> None:
    driver = provider(name)
    assert not driver.missing()
    barrier = threading.Barrier(8)  # all have entered at once

    def lane() -> None:
        for _ in range(3):
            driver.enter()
            barrier.wait()
            driver.memory(64).close()
            driver.leave()
            assert not machine.contexts.stack

    in_thread(*[lane] * 8)
    assert machine.contexts.primary is not None
    assert machine.contexts.primary.retained == 1


def test_a_thread_that_did_not_enter_is_told(machine: Machine, driver: Driver) -> None:
    def outside() -> None:
        with pytest.raises(CudaError) as info:
            driver.stream()
        assert (info.value.code, info.value.fatal) == ("CUDA_ERROR_INVALID_CONTEXT", False)

    in_thread(outside)
    assert machine.forgive()


def test_leaving_without_having_entered_does_nothing(machine: Machine, driver: Driver) -> None:
    in_thread(driver.leave)
    driver.memory(64).close()  # still entered here


def test_entering_twice_takes_leaving_twice(machine: Machine, driver: Driver) -> None:
    driver.enter()
    driver.leave()
    driver.memory(64).close()


def test_what_was_current_before_is_so_again(simulate: Simulate) -> None:
    """A program that uses the GPU itself calls us from its own thread. (pycuda keeps a stack of its own for that.)"""
    machine = simulate("cuda-python")
    driver = provider("cuda-python")
    assert not driver.missing()
    with machine.lock:
        machine.contexts.push(machine.retain().handle)
        before = list(machine.contexts.stack)
    driver.enter()
    driver.leave()
    assert machine.contexts.stack == before

"""Captured work runs when it is launched, and a capture that goes wrong leaves its stream as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from embedge.cuda import CudaError, Driver, Memory, Pinned, Stream
from tests.runtime.cuda.rig import add_one, in_thread, opened, provider
from tests.simulated.fixtures import ORDERS, Simulate
from tests.simulated.machine import Machine


class Rig:
    """A stream, memory, and the work of a batch: in, add one, out."""

    def __init__(self, machine: Machine, driver: Driver, stack: ExitStack) -> None:
        self.machine, self.driver = machine, driver
        self.stream: Stream = driver.stream()
        self.done = driver.event()
        self.source: Pinned = driver.pinned(64)
        self.result: Pinned = driver.pinned(64)
        self.memory: Memory = driver.memory(64)
        opened(stack, self.stream, self.done, self.source, self.result, self.memory)

    def enqueue(self) -> None:
        self.driver.copy_in(self.memory.pointer, self.source, 64, self.stream)
        add_one(self.machine, self.stream, self.memory.pointer, 64)
        self.driver.copy_out(self.result, self.memory.pointer, 64, self.stream)

    def wait(self) -> np.ndarray:
        self.done.record(self.stream)
        self.done.wait()
        return self.result.array


@pytest.fixture(params=ORDERS, ids=str)
def rig(request: pytest.FixtureRequest, simulate: Simulate) -> Iterator[Rig]:
    order, seed = request.param
    machine = simulate("cuda-python", order=order, seed=seed)
    driver = provider("cuda-python")
    assert not driver.missing()
    driver.enter()
    with ExitStack() as stack:
        yield Rig(machine, driver, stack)
    driver.leave()


def test_captured_work_runs_at_each_launch(rig: Rig) -> None:
    captured = rig.driver.capture(rig.stream, rig.enqueue)
    for value in (7, 100, 7):  # what is there then, not what was there when it was captured
        rig.source.array[:] = value
        captured.launch(rig.stream)
        np.testing.assert_array_equal(rig.wait(), value + 1)
    captured.close()
    captured.close()


def test_other_threads_go_on_while_one_captures(rig: Rig) -> None:
    def other() -> None:
        rig.driver.enter()
        rig.driver.memory(64).close()
        rig.driver.leave()

    def enqueue() -> None:
        rig.enqueue()
        in_thread(other)

    rig.driver.capture(rig.stream, enqueue).close()


def test_an_exception_ends_the_capture_first(rig: Rig) -> None:
    def enqueue() -> None:
        rig.enqueue()
        raise KeyError("the kernel refused")

    with pytest.raises(KeyError, match="refused"):
        rig.driver.capture(rig.stream, enqueue)
    rig.source.array[:] = 3
    rig.enqueue()  # the stream takes work as before
    np.testing.assert_array_equal(rig.wait(), 4)


@pytest.mark.parametrize("told", [False, True])
def test_work_that_cannot_be_captured_is_a_cuda_error(rig: Rig, told: bool) -> None:
    """Whether the kernel tells of it or keeps it to itself."""

    def enqueue() -> None:
        span = [(rig.memory.pointer, 64)]
        run = rig.machine.enqueue
        try:
            run(rig.stream.handle, "compute", lambda: None, span, span, name="loop", capturable=False)
        except Exception as error:
            if told:
                raise CudaError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED") from error

    code = "CUDA_ERROR_STREAM_CAPTURE_" + ("UNSUPPORTED" if told else "INVALIDATED")
    with pytest.raises(CudaError) as info:
        rig.driver.capture(rig.stream, enqueue)
    assert (info.value.code, info.value.fatal) == (code, False)
    rig.source.array[:] = 5
    rig.enqueue()
    np.testing.assert_array_equal(rig.wait(), 6)


def test_capture_where_there_is_none_says_so(simulate: Simulate) -> None:
    simulate("pycuda")
    driver = provider("pycuda")
    assert not driver.missing()
    assert not driver.captures
    driver.enter()
    with ExitStack() as stack:
        stream = driver.stream()
        opened(stack, stream)
        ran: list[int] = []
        with pytest.raises(CudaError, match="pycuda cannot capture") as info:
            driver.capture(stream, lambda: ran.append(1))
        assert (info.value.fatal, ran) == (False, [])
    driver.leave()

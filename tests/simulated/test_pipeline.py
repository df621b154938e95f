"""The simulated GPU computes what it is told, in any legal order, and tells what it took."""

from __future__ import annotations

import ctypes
import sys
import threading
from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulated.fixtures import ORDERS
from tests.simulated.install import simulated
from tests.simulated.machine import Machine
from tests.simulated.rig import COUNT, Lane, entered


def done(result: tuple[Any, ...]) -> Any:
    """Return the output of a call of cuda-python that must succeed."""
    assert result[0].name == "CUDA_SUCCESS", result
    return result[1] if len(result) == 2 else result[1:]


def host(address: int, count: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


def double(machine: Machine, stream: int, source: int, target: int, count: int, seconds: float = 0.0) -> None:
    """Enqueue a kernel that doubles floats."""

    def run() -> None:
        machine.write(target, 2 * machine.read(source, (count,), np.float32))

    machine.enqueue(stream, "compute", run, [(source, 4 * count)], [(target, 4 * count)], seconds, "double")


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_two_streams_of_cuda_python(order: str, seed: int) -> None:
    with simulated(Machine(order=order, seed=seed), "cuda-python") as machine:
        from cuda.bindings import driver as cu

        done(cu.cuInit(0))
        device = done(cu.cuDeviceGet(0))
        done(cu.cuCtxSetCurrent(done(cu.cuDevicePrimaryCtxRetain(device))))
        lanes = []
        for number in range(2):
            stream, event = done(cu.cuStreamCreate(1)), done(cu.cuEventCreate(3))
            pinned, memory = done(cu.cuMemHostAlloc(64, 3)), done(cu.cuMemAlloc(64))
            lanes.append((stream, event, pinned, memory))
            host(pinned, 16)[:] = number + 1
            done(cu.cuMemcpyHtoDAsync(memory, pinned, 32, stream))
            double(machine, int(stream), int(memory), int(memory) + 32, 8)
            done(cu.cuMemcpyDtoHAsync(pinned + 32, int(memory) + 32, 32, stream))
            done(cu.cuEventRecord(event, stream))
        for number, (stream, event, pinned, memory) in enumerate(lanes):
            done(cu.cuEventSynchronize(event))
            np.testing.assert_array_equal(host(pinned, 16)[8:], np.full(8, 2.0 * (number + 1)))
            done(cu.cuEventDestroy(event))
            done(cu.cuStreamDestroy(stream))
            done(cu.cuMemFree(memory))
            done(cu.cuMemFreeHost(pinned))
        done(cu.cuDevicePrimaryCtxRelease(device))


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_a_thread_of_pycuda(order: str, seed: int) -> None:
    with simulated(Machine(order=order, seed=seed), "pycuda") as machine:
        import pycuda.driver as cuda

        cuda.init()
        context = cuda.Device(0).retain_primary_context()

        def lane() -> None:
            context.push()
            stream, event = cuda.Stream(1), cuda.Event(cuda.event_flags.BLOCKING_SYNC)
            flags = cuda.host_alloc_flags.PORTABLE | cuda.host_alloc_flags.DEVICEMAP
            pinned = cuda.pagelocked_empty((16,), np.float32, mem_flags=flags)
            memory = cuda.mem_alloc(64)
            pinned[:8] = 3
            cuda.memcpy_htod_async(memory, pinned[:8], stream)
            double(machine, stream.handle, int(memory), int(memory) + 32, 8)
            cuda.memcpy_dtoh_async(pinned[8:], int(memory) + 32, stream)
            event.record(stream).synchronize()
            np.testing.assert_array_equal(pinned[8:], np.full(8, 6.0))
            memory.free()
            pinned.base.free()
            del stream, event
            context.pop()

        thread = threading.Thread(target=lane)
        thread.start()
        thread.join()
        context.detach()


def test_a_provider_has_the_version_that_is_asked_for() -> None:
    with simulated(Machine(), "cuda-python==12.9.1", "pycuda"):
        import cuda.bindings
        import pycuda

        assert (cuda.bindings.__version__, pycuda.VERSION_TEXT) == ("12.9.1", "2026.1")


def test_other_providers_cannot_be_imported() -> None:
    with simulated(Machine(), "pycuda"), pytest.raises(ImportError):
        import cuda.bindings.driver  # noqa: F401
    assert "pycuda" not in sys.modules


@given(
    st.sampled_from(["late", "eager", "random"]),
    st.integers(0, 1000),
    st.lists(st.tuples(st.integers(0, 2), st.integers(-99, 99)), max_size=12),
)
def test_any_order_gives_the_same_numbers(order: str, seed: int, batches: list[tuple[int, int]]) -> None:
    machine = entered(order=order, seed=seed)
    lanes = [Lane(machine) for _ in range(3)]
    running: dict[int, int] = {}

    def finish(which: int) -> None:
        np.testing.assert_array_equal(lanes[which].wait(), np.full(COUNT, 2 * running.pop(which)))

    for which, value in batches:
        if which in running:
            finish(which)
        lanes[which].begin(value)
        running[which] = value
    for which in list(running):
        finish(which)
    for lane in lanes:
        lane.close()
    assert machine.close() == []


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_lanes_in_threads_with_completions_in_others(order: str, seed: int) -> None:
    machine = entered(order=order, seed=seed)
    context = machine.contexts.current().handle
    wrong: list[str] = []

    def complete(lane: Lane, begun: SimpleQueue[float], finished: SimpleQueue[None]) -> None:
        machine.contexts.push(context)
        while (value := begun.get()) is not None:
            if not (lane.wait() == 2 * value).all():
                wrong.append(f"{value}")
            finished.put(None)

    def work(number: int) -> None:
        machine.contexts.push(context)
        lane, begun, finished = Lane(machine), SimpleQueue(), SimpleQueue()
        completion = threading.Thread(target=complete, args=(lane, begun, finished))
        completion.start()
        for batch in range(10):
            lane.begin(100 * number + batch)
            begun.put(100 * number + batch)
            finished.get(timeout=20)
        begun.put(None)
        completion.join()
        lane.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert machine.close() == []

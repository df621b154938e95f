"""Streams, events, memory and copies do the same through every provider."""

from __future__ import annotations

import gc
from contextlib import ExitStack

import numpy as np
import pytest

from embedge.cuda import CudaError, Driver
from tests.runtime.cuda.rig import add_one, in_thread, opened, provider
from tests.simulated.errors import Failure
from tests.simulated.fixtures import ORDERS, Simulate
from tests.simulated.install import PROVIDERS
from tests.simulated.machine import Device, Machine


def round_trip(machine: Machine, driver: Driver, seed: int) -> None:
    """Copy bytes in, add one, copy them out to another place, and compare."""
    given = np.random.default_rng(seed).integers(0, 255, 48).astype(np.uint8)
    with ExitStack() as stack:
        stream, done = driver.stream(), driver.event()
        source, result, memory = driver.pinned(64), driver.pinned(64), driver.memory(64)
        opened(stack, stream, done, source, result, memory)
        source.array[8:56] = given
        driver.copy_in(memory.pointer + 16, source, 48, stream, offset=8)
        add_one(machine, stream, memory.pointer + 16, 48)
        driver.copy_out(result, memory.pointer + 16, 48, stream, offset=4)
        done.record(stream)
        done.wait()
        assert done.done()
        np.testing.assert_array_equal(result.array[4:52], given + 1)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_bytes_go_in_and_come_out(name: str, order: str, seed: int, simulate: Simulate) -> None:
    machine = simulate(name, order=order, seed=seed)
    driver = provider(name)
    assert not driver.missing()

    def lane(number: int) -> None:
        driver.enter()
        for batch in range(3):
            round_trip(machine, driver, 10 * number + batch)
        driver.leave()

    in_thread(*(lambda number=number: lane(number) for number in range(4)))


def test_an_event_says_when_it_has_come(machine: Machine, driver: Driver) -> None:
    with ExitStack() as stack:
        stream, event, memory = driver.stream(high=True), driver.event(), driver.memory(256)
        opened(stack, stream, event, memory)
        for _ in range(2):
            add_one(machine, stream, memory.pointer, 256)
        event.record(stream)
        asked = 0
        while not event.done():
            asked += 1
        assert asked == 3  # two kernels and the event itself: the machine runs one each time


def test_events_with_timing_tell_seconds(machine: Machine, driver: Driver) -> None:
    with ExitStack() as stack:
        stream, memory = driver.stream(), driver.memory(256)
        begin, end = driver.event(timing=True), driver.event(timing=True)
        opened(stack, stream, memory, begin, end)
        begin.record(stream)
        add_one(machine, stream, memory.pointer, 256, seconds=0.25)
        end.record(stream)
        end.wait()
        assert end.seconds_since(begin) == pytest.approx(0.25)


@pytest.mark.parametrize("integrated", [False, True])
def test_what_the_device_is(name: str, simulate: Simulate, integrated: bool) -> None:
    simulate(name, device=Device(name="Orin", driver=13020, integrated=integrated, memory=8 << 30, bus="0001:02:03.0"))
    driver = provider(name)
    assert not driver.missing()
    gpu = driver.gpu()
    assert (gpu.index, gpu.name, gpu.capability, gpu.multiprocessors) == (0, "Orin", (8, 7), 16)
    assert (gpu.memory, gpu.integrated, gpu.driver, gpu.bus) == (8 << 30, integrated, 13020, "0001:02:03.0")
    assert driver.version().startswith(name)
    assert "CUDA 13.2" in driver.version()
    assert ("cannot capture" in driver.version()) is not driver.captures


def test_pointers_are_aligned_and_pinned_memory_is_mapped(machine: Machine, driver: Driver) -> None:
    with ExitStack() as stack:
        memory, pinned = [driver.memory(size) for size in (1, 255, 257)], driver.pinned(7)
        opened(stack, *memory, pinned)
        assert all(each.pointer % 256 == 0 for each in memory)
        assert [each.nbytes for each in (*memory, pinned)] == [1, 255, 257, 7]
        pinned.array[:] = range(7)
        np.testing.assert_array_equal(machine.read(pinned.pointer, (7,), np.uint8), range(7))
        assert (pinned.array.dtype, pinned.array.shape) == (np.uint8, (7,))


@pytest.mark.parametrize(("offset", "nbytes"), [(0, 65), (60, 5), (-1, 4), (0, -1)])
def test_a_copy_stays_within_its_pinned_memory(driver: Driver, offset: int, nbytes: int) -> None:
    with ExitStack() as stack:
        stream, memory, pinned = driver.stream(), driver.memory(256), driver.pinned(64)
        opened(stack, stream, memory, pinned)
        with pytest.raises(ValueError, match="of 64 bytes"):
            driver.copy_in(memory.pointer, pinned, nbytes, stream, offset=offset)
        with pytest.raises(ValueError, match="of 64 bytes"):
            driver.copy_out(pinned, memory.pointer, nbytes, stream, offset=offset)


def test_closing_twice_frees_once(machine: Machine, driver: Driver) -> None:
    for made in (driver.stream(), driver.event(), driver.memory(64), driver.pinned(64)):
        made.close()
        made.close()
    assert machine.memory_info() == (8 << 30, 8 << 30)


def test_what_is_closed_is_not_used(driver: Driver) -> None:
    """A handle may be another's by then, and none at all would be the default stream."""
    stream, memory, pinned = driver.stream(), driver.memory(64), driver.pinned(64)
    with ExitStack() as stack:
        event, other = driver.event(), driver.pinned(64)
        opened(stack, event, other)
        for each in (stream, pinned):
            each.close()
        with pytest.raises(ValueError, match="stream is closed"):
            event.record(stream)
        with pytest.raises(ValueError, match="stream is closed"):
            driver.copy_in(memory.pointer, other, 64, stream)
        with pytest.raises(ValueError, match="closed"):
            driver.copy_in(memory.pointer, pinned, 64, stream)
        with pytest.raises(ValueError, match="closed"):
            _ = pinned.array
        memory.close()
        with pytest.raises(ValueError, match="memory is closed"):
            _ = memory.pointer


def test_pinned_memory_outlives_its_views(machine: Machine, driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    pinned = driver.pinned(64)
    view = pinned.array.view(np.float32).reshape(4, 4)[1:]
    pinned.close()
    view[:] = 3.0  # still there
    assert "while a view of them is held" in caplog.text
    assert [region.nbytes for region in machine.memory.alive()] == [64]
    kept = [view]
    del view

    def drop() -> None:  # in a thread that never entered
        kept.clear()
        gc.collect()

    in_thread(drop)
    assert not list(machine.memory.alive())


def test_out_of_memory_says_how_much_is_free_and_whom_to_ask(machine: Machine, driver: Driver) -> None:
    machine.memory.taken = 6 << 30
    with pytest.raises(
        CudaError, match=r"4\.00 GiB are asked for; 2\.00 GiB of 8\.00 GiB are free.*nvidia-smi"
    ) as info:
        driver.memory(4 << 30)
    assert (info.value.code, info.value.fatal) == ("CUDA_ERROR_OUT_OF_MEMORY", False)
    assert driver.free_memory() == (2 << 30, 8 << 30)
    driver.memory(1 << 20).close()  # the context lives


def test_out_of_memory_of_an_integrated_gpu_names_its_tools(name: str, simulate: Simulate) -> None:
    simulate(name, device=Device(integrated=True))
    driver = provider(name)
    assert not driver.missing()
    driver.enter()
    with pytest.raises(CudaError, match="tegrastats"):
        driver.memory(9 << 30)
    driver.leave()


def test_out_of_page_locked_memory_speaks_of_the_host(
    machine: Machine, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **named: object) -> None:
        raise Failure("CUDA_ERROR_OUT_OF_MEMORY")

    monkeypatch.setattr(machine, "pin", full)
    with pytest.raises(CudaError, match=r"16\.0 MiB of page-locked memory of the host") as info:
        driver.pinned(16 << 20)
    assert info.value.code == "CUDA_ERROR_OUT_OF_MEMORY"


def test_providers_of_the_tests_are_all_there_are() -> None:
    from embedge import cuda

    assert cuda.names() == PROVIDERS

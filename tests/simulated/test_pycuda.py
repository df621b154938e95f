"""What is particular to pycuda: its stacks, its destructors, its exceptions without a code."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from tests.simulated import pycuda_driver
from tests.simulated.machine import Machine


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def cuda(machine: Machine) -> ModuleType:
    module = pycuda_driver.build(machine)
    module.init()
    return module


def in_a_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work, name="lane")
    thread.start()
    thread.join()


def test_a_thread_that_ends_with_a_context_on_its_stack(machine: Machine, cuda: ModuleType) -> None:
    context = cuda.Device(0).retain_primary_context()
    in_a_thread(context.push)
    assert machine.close() == ["pycuda: thread lane leaves a context on its stack: abort()"]


def test_a_call_without_a_context(machine: Machine, cuda: ModuleType) -> None:
    for call in (cuda.Stream, cuda.Event, lambda: cuda.mem_alloc(8)):
        with pytest.raises(cuda.LogicError, match="explicit_context_dependent failed: invalid device context"):
            call()
    assert len(machine.violations) == 3


def test_dropped_in_another_thread(machine: Machine, cuda: ModuleType) -> None:
    context = cuda.Device(0).retain_primary_context()
    held: list[object] = []

    def make() -> None:
        context.push()
        held.append(cuda.mem_alloc(8))
        context.pop()

    in_a_thread(make)
    in_a_thread(held.clear)
    assert "dropped in a thread without its context" in machine.forgive()[0]
    assert machine.close() == ["leaked: 8 bytes of device memory"]


def test_freed_by_hand_and_by_going_out_of_scope(machine: Machine, cuda: ModuleType) -> None:
    context = cuda.Device(0).retain_primary_context()
    context.push()
    memory, stream, event = cuda.mem_alloc(8), cuda.Stream(1), cuda.Event()
    pinned = cuda.pagelocked_empty(4, np.float32, mem_flags=cuda.host_alloc_flags.DEVICEMAP)
    assert pinned.shape == (4,)
    assert machine.memory.at(pinned.base.get_device_pointer(), 16).data.ctypes.data == pinned.ctypes.data
    memory.free()
    pinned.base.free()
    del stream, event
    with pytest.raises(cuda.LogicError, match="invalid resource handle"):
        memory.free()
    context.pop()
    context.detach()
    assert len(machine.forgive()) == 1
    assert machine.close() == []


def test_exceptions_have_words_and_no_code(machine: Machine, cuda: ModuleType) -> None:
    context = cuda.Device(0).retain_primary_context()
    context.push()
    machine.memory.taken = machine.memory.capacity
    with pytest.raises(cuda.MemoryError, match=r"^cuMemAlloc failed: out of memory$"):
        cuda.mem_alloc(8)
    stream, event = cuda.Stream(1), cuda.Event()
    machine.faults.fail()
    machine.enqueue(stream.handle, "compute", lambda: None)
    event.record(stream)
    with pytest.raises(cuda.LogicError, match=r"^cuEventSynchronize failed: an illegal memory access was encountered$"):
        event.synchronize()
    del stream, event
    context.pop()
    context.detach()
    assert machine.close() == []


def test_a_context_that_is_detached_by_another_thread_leaks(machine: Machine, cuda: ModuleType) -> None:
    in_a_thread(cuda.Device(0).retain_primary_context().detach)
    assert "in a thread that did not make it" in machine.violations[0]


def test_the_null_stream_is_used_where_none_is_given(machine: Machine, cuda: ModuleType) -> None:
    context = cuda.Device(0).retain_primary_context()
    context.push()
    event = cuda.Event()
    with pytest.raises(AssertionError, match="null stream"):
        event.record()
    context.pop()

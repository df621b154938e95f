"""Each rule of the simulated GPU, broken: a rule that is not tested here may hold nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

from tests.simulated.device import Device
from tests.simulated.errors import Failure, Violation
from tests.simulated.fixtures import ORDERS
from tests.simulated.install import simulated
from tests.simulated.machine import Machine
from tests.simulated.rig import COUNT, NBYTES, Lane, double, entered, floats


@pytest.fixture
def machine() -> Machine:
    return entered(order="late")


@pytest.fixture
def lane(machine: Machine) -> Iterator[Lane]:
    return Lane(machine)


def only(machine: Machine) -> str:
    """Return the one violation there is."""
    (found,) = machine.forgive()
    return found


def test_a_lane_that_keeps_the_rules_breaks_none(machine: Machine, lane: Lane) -> None:
    for value in (1.0, 2.0, 3.0):
        lane.begin(value)
        np.testing.assert_array_equal(lane.wait(), np.full(COUNT, 2 * value))
    lane.close()
    assert machine.close() == []


def test_refilled_before_the_copy_has_read_it(machine: Machine, lane: Lane) -> None:
    lane.begin(1)
    lane.fill(2)
    lane.wait()
    assert "refilled too early" in only(machine)


def test_refilled_before_a_kernel_has_read_mapped_memory(machine: Machine, lane: Lane) -> None:
    lane.fill(1)
    double(machine, lane.stream, lane.source.base, lane.memory[1].base)
    lane.record()
    lane.fill(2)
    lane.wait()
    assert "refilled too early" in only(machine)


def test_a_result_that_is_read_too_early_is_garbage(lane: Lane) -> None:
    floats(lane.result)[:] = 2  # of the batch before
    lane.begin(1)
    assert np.isnan(floats(lane.result)).all()
    assert (lane.wait() == 2).all()


def test_memory_is_garbage_when_it_is_new(machine: Machine, lane: Lane) -> None:
    assert np.isnan(machine.read(lane.memory[0].base, (COUNT,), np.float32)).all()
    assert np.isnan(floats(lane.source)).all()


def test_a_result_that_is_overwritten_before_it_can_be_read(machine: Machine, lane: Lane) -> None:
    lane.begin(1)
    lane.copy_out()
    assert "overwritten by a copy-out" in only(machine)


@pytest.mark.parametrize("which", ["event", "stream", "memory", "pinned"])
def test_freed_in_flight(machine: Machine, lane: Lane, which: str) -> None:
    lane.begin(1)
    free = {
        "event": lambda: machine.destroy_event(lane.event),
        "stream": lambda: machine.destroy_stream(lane.stream),
        "memory": lambda: machine.free(lane.memory[1].base),
        "pinned": lambda: machine.free(lane.result.host, host=True),
    }
    with pytest.raises(Violation):
        free[which]()
    assert len(machine.violations) == 1


def test_used_after_it_was_freed(machine: Machine, lane: Lane) -> None:
    machine.free(lane.memory[0].base)
    with pytest.raises(Failure, match=r"ILLEGAL_ADDRESS.*after free"):
        lane.copy_in()


def test_freed_twice(machine: Machine, lane: Lane) -> None:
    machine.free(lane.memory[0].base)
    with pytest.raises(Failure, match="twice"):
        machine.free(lane.memory[0].base)


def test_pinned_memory_is_written_to_after_it_was_freed(machine: Machine, lane: Lane) -> None:
    view = floats(lane.source)
    lane.close()
    view[0] = 1
    assert "after it was freed" in machine.close()[0]


def test_beyond_the_end_of_an_allocation(machine: Machine, lane: Lane) -> None:
    with pytest.raises(Failure, match=r"ILLEGAL_ADDRESS.*beyond"):
        machine.copy_in(lane.memory[0].base + 4, lane.source.host, NBYTES, lane.stream)
    with pytest.raises(Failure, match="ILLEGAL_ADDRESS"):
        machine.copy_in(12345, lane.source.host, NBYTES, lane.stream)


def test_unaligned(machine: Machine, lane: Lane) -> None:
    with pytest.raises(Failure, match="MISALIGNED"):
        machine.read(lane.memory[0].base + 2, (1,), np.float32)


def test_a_kernel_that_reads_what_it_did_not_name(machine: Machine, lane: Lane) -> None:
    other = lane.memory[1].base
    machine.enqueue(lane.stream, "compute", lambda: machine.write(other, np.zeros(1, np.float32)))
    lane.record()
    with pytest.raises(Failure, match="ILLEGAL_ADDRESS"):
        lane.wait()
    assert "did not name" in only(machine)


def test_pageable_memory(machine: Machine, lane: Lane) -> None:
    pageable = np.zeros(COUNT, np.float32)
    with pytest.raises(Violation, match="pageable"):
        machine.copy_in(lane.memory[0].base, pageable.ctypes.data, NBYTES, lane.stream)


@pytest.mark.parametrize("handle", [0, 1, 2])
def test_the_null_stream(machine: Machine, lane: Lane, handle: int) -> None:
    with pytest.raises(Violation, match="null stream"):
        machine.copy_in(lane.memory[0].base, lane.source.host, NBYTES, handle)


def test_a_stream_that_waits_for_the_null_stream(machine: Machine) -> None:
    with pytest.raises(Violation, match="NON_BLOCKING"):
        machine.stream(blocking=True)


def test_an_event_that_was_never_recorded(machine: Machine, lane: Lane) -> None:
    for wait in (machine.synchronise, machine.query, lambda event: machine.wait_for(lane.stream, event)):
        with pytest.raises(Violation, match="never recorded"):
            wait(lane.event)


def test_a_handle_of_another_kind(machine: Machine, lane: Lane) -> None:
    with pytest.raises(Failure, match="INVALID_HANDLE"):
        machine.record(lane.stream, lane.event)


def test_two_streams_without_an_event_between_them(machine: Machine) -> None:
    one, other = Lane(machine), Lane(machine)
    one.begin(1)
    double(machine, other.stream, one.memory[1].base, other.memory[1].base)
    assert only(machine).startswith("race")


@pytest.mark.parametrize(("order", "seed"), ORDERS)
def test_two_streams_with_an_event_between_them(order: str, seed: int) -> None:
    machine = entered(order=order, seed=seed)
    one, other = Lane(machine), Lane(machine)
    one.begin(1)
    machine.wait_for(other.stream, one.event)
    double(machine, other.stream, one.memory[1].base, other.memory[1].base)
    other.copy_out()
    other.record()
    assert (other.wait() == 4).all()
    assert machine.violations == []


def test_an_object_of_one_thread_in_two(machine: Machine) -> None:
    context = machine.single("execution context")
    with context.use():
        pass
    caught: list[str] = []

    def use() -> None:
        try:
            with context.use():
                pass
        except Violation as violation:
            caught.append(str(violation))

    for _ in range(2):
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        context.hand_over()
    assert len(caught) == 1
    assert "belongs to thread" in only(machine)


def test_what_is_not_freed_is_told_at_the_end(machine: Machine, lane: Lane) -> None:
    kinds = ["event", "stream", f"{NBYTES} bytes of device", f"{NBYTES} bytes of pinned"]
    found = machine.close()
    assert len(found) == 6
    assert all(any(kind in each for each in found) for kind in kinds)


def test_what_a_test_leaves_behind_on_purpose_is_no_leak(machine: Machine, lane: Lane) -> None:
    machine.may_leak = True
    assert machine.close() == []


def test_a_violation_fails_the_test_at_its_end() -> None:
    with pytest.raises(pytest.fail.Exception, match="leaked"), simulated(entered()) as machine:
        machine.allocate(1)


def test_a_violation_is_told_when_the_test_fails_by_itself() -> None:
    machine = Machine()
    machine.remember("by hand")
    with pytest.raises(AssertionError, match="by hand") as caught, simulated(machine):
        raise ValueError("of the test")
    assert isinstance(caught.value.__cause__, ValueError)


def test_memory_ends() -> None:
    machine = entered(device=Device(memory=1000))
    machine.allocate(600)
    assert machine.memory_info() == (400, 1000)
    machine.memory.taken = 100  # by another process
    assert machine.memory_info() == (300, 1000)
    with pytest.raises(Failure, match="OUT_OF_MEMORY"):
        machine.allocate(301)
    machine.pin(5000, mapped=True)  # of the host
    assert machine.violations == []


def test_host_and_gpu_share_their_memory_on_a_board() -> None:
    machine = entered(device=Device(memory=1000, integrated=True))
    machine.pin(600, mapped=True)
    with pytest.raises(Failure, match="OUT_OF_MEMORY"):
        machine.pin(500, mapped=True)


def test_pinned_memory_that_is_not_mapped_has_no_device_address(machine: Machine) -> None:
    with pytest.raises(Failure, match="INVALID_VALUE"):
        machine.device_pointer(machine.pin(8, mapped=False).host)

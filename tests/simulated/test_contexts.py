"""Which thread has which context, and what becomes of one that is thrown away."""

from __future__ import annotations

import pytest

from tests.simulated.device import Device
from tests.simulated.errors import Failure
from tests.simulated.machine import Machine
from tests.simulated.rig import Lane, entered


def test_a_call_before_the_driver_is_started() -> None:
    with pytest.raises(Failure, match="NOT_INITIALIZED"):
        Machine().retain()


def test_a_call_without_a_context() -> None:
    machine = entered()
    machine.contexts.pop()
    with pytest.raises(Failure, match="INVALID_CONTEXT"):
        machine.stream()
    assert "no context current" in machine.violations[0]


def test_popping_what_is_not_there() -> None:
    machine = entered()
    machine.contexts.pop()
    with pytest.raises(Failure, match="INVALID_CONTEXT"):
        machine.contexts.pop()


def test_a_reset_takes_everything_with_it() -> None:
    machine = entered()
    lane = Lane(machine)
    machine.reset()
    assert machine.close() == []  # nothing is left to leak
    with pytest.raises(Failure, match="CONTEXT_IS_DESTROYED"):
        machine.destroy_stream(lane.stream)
    machine.contexts.set(machine.retain().handle)
    with pytest.raises(Failure, match="INVALID_HANDLE"):
        machine.destroy_stream(lane.stream)
    assert len(machine.violations) == 2


def test_a_reset_with_work_in_flight() -> None:
    machine = entered()
    Lane(machine).begin(1)
    machine.reset()
    assert machine.violations == ["the context was destroyed with work in flight"]


def test_the_last_release_throws_the_context_away() -> None:
    machine = entered()
    machine.retain()
    machine.release()
    machine.allocate(8)
    machine.release()
    with pytest.raises(Failure, match="CONTEXT_IS_DESTROYED"):
        machine.allocate(8)
    with pytest.raises(Failure, match="INVALID_CONTEXT"):
        machine.release()


def test_no_gpu_and_no_driver() -> None:
    with pytest.raises(Failure, match="NO_DEVICE"):
        Machine(device=Device(count=0)).init()
    with pytest.raises(RuntimeError, match=r"libcuda\.so\.1"):
        Machine(device=Device(installed=False)).init()

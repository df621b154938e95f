"""Graph capture: work that is written down, launched with the addresses of that time, and what breaks a capture."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest

from tests.simulated.errors import Failure, Violation
from tests.simulated.machine import Machine
from tests.simulated.rig import COUNT, Lane, entered, floats

MODE = "thread_local"


@pytest.fixture
def lane() -> Lane:
    return Lane(entered())


def captured(lane: Lane) -> int:
    """Return the handle of a launchable graph of copy-in, kernel and copy-out."""
    lane.machine.begin_capture(lane.stream, MODE)
    lane.copy_in()
    lane.compute()
    lane.copy_out()
    graph = lane.machine.end_capture(lane.stream).handle
    launchable = lane.machine.instantiate(graph).handle
    lane.machine.destroy_graph(graph)
    return launchable


@pytest.mark.parametrize(("order", "seed"), [("late", 0), ("eager", 0), ("random", 1)])
def test_a_launch_runs_what_was_captured_and_the_capture_does_not(order: str, seed: int) -> None:
    lane = Lane(entered(order=order, seed=seed))
    lane.fill(1)
    graph = captured(lane)
    lane.machine.scheduler.progress()
    assert np.isnan(lane.machine.read(lane.memory[1].base, (COUNT,), np.float32)).all()
    for value in (3.0, 4.0):
        lane.fill(value)
        lane.machine.launch(graph, lane.stream)
        lane.record()
        assert (lane.wait() == 2 * value).all()
    lane.machine.destroy_exec(graph)
    lane.close()
    assert lane.machine.close() == []


def test_rules_hold_for_what_a_launch_runs(lane: Lane) -> None:
    graph = captured(lane)
    lane.fill(1)
    lane.machine.launch(graph, lane.stream)
    assert np.isnan(floats(lane.result)).all()
    lane.record()
    lane.fill(2)
    lane.wait()
    assert "refilled too early" in lane.machine.violations[0]


def test_a_kernel_of_a_graph_that_fails_ends_the_launch() -> None:
    lane = Lane(entered(order="eager"))
    graph = captured(lane)
    lane.fill(1)
    lane.machine.faults.fail()
    lane.machine.launch(graph, lane.stream)
    assert [each.name for each in lane.machine.timeline] == ["copy-in"]
    assert list(lane.machine.scheduler.pending()) == []
    with pytest.raises(Failure, match="ILLEGAL_ADDRESS"):
        lane.record()


def test_a_graph_whose_memory_was_freed(lane: Lane) -> None:
    graph = captured(lane)
    lane.machine.free(lane.memory[0].base)
    with pytest.raises(Failure, match="after free"):
        lane.machine.launch(graph, lane.stream)


def test_a_graph_that_is_destroyed_while_it_runs(lane: Lane) -> None:
    graph = captured(lane)
    lane.machine.launch(graph, lane.stream)
    with pytest.raises(Violation, match="while it runs"):
        lane.machine.destroy_exec(graph)


FORBIDDEN: dict[str, Callable[[Machine, Lane], object]] = {
    "allocating": lambda machine, lane: machine.allocate(8),
    "pinning": lambda machine, lane: machine.pin(8, mapped=True),
    "freeing": lambda machine, lane: machine.free(lane.memory[0].base),
    "waiting for the stream": lambda machine, lane: machine.synchronise_stream(lane.stream),
    "asking the stream": lambda machine, lane: machine.query_stream(lane.stream),
    "waiting for the device": lambda machine, lane: machine.synchronise_context(),
    "waiting for an event": lambda machine, lane: machine.synchronise(lane.event),
    "asking an event": lambda machine, lane: machine.query(lane.event),
}


@pytest.mark.parametrize("call", FORBIDDEN)
def test_what_breaks_a_capture(lane: Lane, call: str) -> None:
    lane.record()
    lane.machine.synchronise(lane.event)
    lane.machine.begin_capture(lane.stream, MODE)
    with pytest.raises(Failure, match="CAPTURE_UNSUPPORTED"):
        FORBIDDEN[call](lane.machine, lane)
    assert lane.machine.capture_status(lane.stream) == "invalidated"
    with pytest.raises(Failure, match="CAPTURE_INVALIDATED"):
        lane.compute()
    with pytest.raises(Failure, match="CAPTURE_INVALIDATED"):
        lane.machine.end_capture(lane.stream)
    assert lane.machine.capture_status(lane.stream) == "none"
    assert lane.machine.violations


@pytest.mark.parametrize("call", ["waiting for the stream", "asking the stream", "waiting for the device"])
def test_what_breaks_the_capture_of_another_thread(lane: Lane, call: str) -> None:
    machine = lane.machine
    machine.begin_capture(lane.stream, MODE)
    context = machine.contexts.current().handle
    codes: list[str] = []

    def disturb() -> None:
        machine.contexts.push(context)
        try:
            FORBIDDEN[call](machine, lane)
        except Failure as failure:
            codes.append(failure.code)

    thread = threading.Thread(target=disturb)
    thread.start()
    thread.join()
    assert codes == ["CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"]
    assert machine.capture_status(lane.stream) == "invalidated"
    assert machine.violations


def test_a_capture_of_this_thread_does_not_concern_others(lane: Lane) -> None:
    machine = lane.machine
    machine.begin_capture(lane.stream, MODE)
    context = machine.contexts.current().handle
    codes: list[str] = []

    def allocate() -> None:
        machine.contexts.push(context)
        machine.free(machine.allocate(8).base)
        try:
            machine.end_capture(lane.stream)
        except Failure as failure:
            codes.append(failure.code)

    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    assert codes == ["CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD"]
    assert machine.capture_status(lane.stream) == "active"


def test_a_kernel_that_cannot_be_captured_breaks_the_capture_and_no_rule(lane: Lane) -> None:
    lane.machine.begin_capture(lane.stream, MODE)
    with pytest.raises(Failure, match="CAPTURE_UNSUPPORTED"):
        lane.machine.enqueue(lane.stream, "compute", lambda: None, capturable=False)
    with pytest.raises(Failure, match="CAPTURE_INVALIDATED"):
        lane.machine.end_capture(lane.stream)
    assert lane.machine.violations == []


def test_an_event_of_a_capture_never_comes(lane: Lane) -> None:
    lane.machine.begin_capture(lane.stream, MODE)
    lane.record()
    lane.machine.end_capture(lane.stream)
    with pytest.raises(Failure, match="CAPTURED_EVENT"):
        lane.wait()


def test_a_capture_does_not_wait_for_work_outside_of_it(lane: Lane) -> None:
    lane.record()
    lane.machine.begin_capture(lane.stream, MODE)
    with pytest.raises(Failure, match="CAPTURE_ISOLATION"):
        lane.machine.wait_for(lane.stream, lane.event)

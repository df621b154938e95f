"""What a GPU does when it fails: a dead context, a stream that hangs."""

from __future__ import annotations

import threading

import pytest

from tests.simulated.errors import Failure
from tests.simulated.rig import Lane, entered


@pytest.mark.parametrize("code", ["CUDA_ERROR_ILLEGAL_ADDRESS", "CUDA_ERROR_LAUNCH_FAILED"])
def test_a_failed_kernel_kills_the_context_until_it_is_reset(code: str) -> None:
    machine = entered()
    lane, other = Lane(machine), Lane(machine)
    machine.faults.fail(after=1, code=code)
    lane.begin(1)
    assert (lane.wait() == 2).all()
    other.begin(1)
    lane.begin(1)
    for call in (lane.wait, other.wait, machine.stream, machine.memory_info, lane.compute):
        with pytest.raises(Failure, match=code):
            call()
    machine.reset()
    machine.contexts.set(machine.retain().handle)
    fresh = Lane(machine)
    fresh.begin(3)
    assert (fresh.wait() == 6).all()
    assert machine.violations == []


def test_what_is_closed_in_a_dead_context_is_gone_and_says_why_it_failed() -> None:
    machine = entered()
    lane = Lane(machine)
    machine.faults.fail()
    lane.begin(1)
    with pytest.raises(Failure):
        lane.wait()
    closing = [lambda: machine.destroy_event(lane.event), lambda: machine.destroy_stream(lane.stream)]
    closing += [lambda base=region.base: machine.free(base) for region in lane.memory]
    closing += [lambda host=each.host: machine.free(host, host=True) for each in (lane.source, lane.result)]
    for close in closing:
        with pytest.raises(Failure, match="ILLEGAL_ADDRESS"):
            close()
    assert machine.close() == []


def test_a_kernel_that_raises_is_a_violation() -> None:
    machine = entered()
    lane = Lane(machine)
    machine.enqueue(lane.stream, "compute", lambda: 1 / 0, name="divide")
    lane.record()
    with pytest.raises(Failure, match="LAUNCH_FAILED"):
        lane.wait()
    assert "divide raised ZeroDivisionError" in machine.violations[0]


def test_a_hung_stream_blocks_who_waits_for_it_and_nobody_else() -> None:
    machine = entered()
    lane, other = Lane(machine), Lane(machine)
    hang = machine.faults.hang()
    lane.begin(1)
    results: list[float] = []
    context = machine.contexts.current().handle

    def wait() -> None:
        machine.contexts.push(context)
        results.append(float(lane.wait()[0]))

    thread = threading.Thread(target=wait)
    thread.start()
    assert hang.reached.wait(10)
    other.begin(2)
    assert (other.wait() == 4).all()  # the lock is free
    assert not machine.query(lane.event)
    assert results == []
    hang.release()
    thread.join(10)
    assert results == [2.0]
    assert machine.faults.kernels == 2


def test_a_reset_frees_who_waits_for_a_hung_stream() -> None:
    machine = entered()
    lane = Lane(machine)
    hang = machine.faults.hang()
    lane.begin(1)
    codes: list[str] = []
    context = machine.contexts.current().handle

    def wait() -> None:
        machine.contexts.push(context)
        try:
            lane.wait()
        except Failure as failure:
            codes.append(failure.code)

    thread = threading.Thread(target=wait)
    thread.start()
    assert hang.reached.wait(10)
    machine.reset()
    thread.join(10)
    assert codes == ["CUDA_ERROR_CONTEXT_IS_DESTROYED"]
    assert machine.violations == []  # what hangs is thrown away in flight


def test_a_hang_that_is_released_before_it_comes_never_comes() -> None:
    machine = entered()
    lane = Lane(machine)
    machine.faults.hang().release()
    lane.begin(1)
    assert (lane.wait() == 2).all()

"""Who uses the GPU: all are woken when it breaks, and the first that comes back makes it anew."""

from __future__ import annotations

import threading

import pytest

from embedge.cuda import CudaError, Driver, SharedContext
from tests.runtime.cuda.rig import broken, in_thread
from tests.simulated.machine import Machine

FATAL = CudaError("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered")


class Lane:
    """A user that notes how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def context(driver: Driver) -> SharedContext:
    return SharedContext(driver, patience=0.0)


def test_one_context_a_driver(driver: Driver) -> None:
    assert SharedContext.of(driver) is SharedContext.of(driver)


def test_all_users_are_woken_once(context: SharedContext) -> None:
    lanes = [Lane(), Lane(), Lane()]
    for lane in lanes:
        context.join(lane.wake)
    context.leave(lanes[2].wake)
    context.fail(FATAL)
    context.fail(FATAL)
    assert [lane.woken for lane in lanes] == [1, 1, 0]
    assert context.broken is FATAL
    for _ in range(2):
        with pytest.raises(CudaError, match="illegal memory access") as info:
            context.check()
        assert info.value.fatal


def test_an_error_that_is_not_fatal_breaks_nothing(context: SharedContext) -> None:
    lane = Lane()
    context.join(lane.wake)
    context.fail(CudaError("CUDA_ERROR_OUT_OF_MEMORY"))
    context.check()
    assert (context.broken, lane.woken) == (None, 0)


def test_a_user_may_be_woken_while_it_looks(context: SharedContext) -> None:
    """What wakes may take its own locks and ask the context: it is called with none held."""
    seen: list[CudaError | None] = []

    def wake() -> None:
        in_thread(lambda: seen.append(context.broken), lambda: context.leave(wake))

    context.join(wake)
    context.fail(FATAL)
    assert seen == [FATAL]


def test_the_first_that_comes_back_makes_it_anew(machine: Machine, driver: Driver, context: SharedContext) -> None:
    old, lanes = machine.contexts.primary, [Lane(), Lane()]
    for lane in lanes:
        context.join(lane.wake)
    broken(machine, driver)
    context.fail(FATAL)
    for lane in lanes:
        context.leave(lane.wake)
    for lane in lanes:
        context.join(lane.wake)
        context.check()
        driver.memory(64).close()
    assert machine.contexts.primary is not old
    assert machine.contexts.primary is not None
    assert machine.contexts.primary.retained == 1


def test_it_waits_for_the_others(machine: Machine, driver: Driver) -> None:
    context = SharedContext(driver, patience=60.0)
    ready, failed, joined = threading.Event(), threading.Event(), threading.Event()
    order: list[str] = []

    def slow() -> None:
        lane = Lane()
        driver.enter()
        context.join(lane.wake)
        memory = driver.memory(64)
        ready.set()
        failed.wait()
        memory.close()
        driver.leave()
        order.append("the other left")
        context.leave(lane.wake)

    def quick() -> None:
        ready.wait()
        driver.enter()
        broken(machine, driver)
        context.fail(FATAL)
        failed.set()
        context.join(Lane().wake)
        order.append("reset")
        driver.memory(64).close()
        driver.leave()
        joined.set()

    driver.leave()
    in_thread(slow, quick)
    driver.enter()
    assert joined.is_set()
    assert order == ["the other left", "reset"]


def test_it_does_not_wait_for_ever(context: SharedContext, machine: Machine, driver: Driver) -> None:
    stuck, lane = Lane(), Lane()
    context.join(stuck.wake)
    broken(machine, driver)
    context.fail(FATAL)
    with pytest.raises(CudaError, match=r"1 lanes still use the GPU .* restart the process") as info:
        context.join(lane.wake)
    assert info.value.fatal
    context.leave(lane.wake)  # it is no user
    context.leave(stuck.wake)
    context.join(lane.wake)  # now it is
    driver.memory(64).close()


def test_a_reset_that_fails_is_tried_again_by_the_next(
    context: SharedContext, machine: Machine, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken(machine, driver)
    context.fail(FATAL)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "reset", lambda: (_ for _ in ()).throw(CudaError(FATAL.code, "restart the process")))
        with pytest.raises(CudaError, match="restart"):
            context.join(Lane().wake)
        assert context.broken is FATAL
    context.join(Lane().wake)
    assert context.broken is None


def test_two_users_may_be_woken_by_the_same_function(context: SharedContext) -> None:
    lane = Lane()
    context.join(lane.wake)
    context.join(lane.wake)
    context.leave(lane.wake)
    context.fail(FATAL)
    assert lane.woken == 1

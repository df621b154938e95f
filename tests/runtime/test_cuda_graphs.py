"""Runs that are recorded and launched again give the results of their own inputs, and are forgotten in time."""

from __future__ import annotations

import logging

import pytest

from embedge.cuda import CudaError
from embedge.errors import BackendError
from tests.runtime.streams import Lane, Stateful, Weigh, feeds, lane, same
from tests.simulated.device import Device
from tests.simulated.fixtures import ORDERS, Simulate, simulate
from tests.simulated.machine import Machine

__all__ = ["simulate"]

BOARDS = {"server": Device(), "jetson": Device(integrated=True)}
SHAPES = [(2, 8), (1, 4), (3, 5), (4, 2)]


def check(opened: Lane, *runs: tuple[int, tuple[int, int]]) -> None:
    """Run batches with two in flight at a time, and check their results."""
    waiting = []
    for seed, shape in runs:
        waiting.append((opened.session.start(feeds(seed, shape)), feeds(seed, shape)))
        if len(waiting) == 2:
            result, given = waiting.pop(0)
            same(result(), given)
    for result, given in waiting:
        same(result(), given)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("make", [Weigh, Stateful])
def test_contents_that_alternate_never_come_back_stale(
    simulate: Simulate, make: type[Weigh], board: str, order: str, seed: int
) -> None:
    with lane(simulate("cuda-python", order=order, seed=seed, device=BOARDS[board]), make) as opened:
        check(opened, *[(number % 2, SHAPES[0]) for number in range(12)])
        check(opened, *[(number % 2, SHAPES[number % 3]) for number in range(24)])
        assert len(opened.session._graphs) == (3 if board == "server" else 6)


def test_a_shape_runs_plainly_then_is_recorded_then_is_launched(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        for count, recorded in [(1, 0), (2, 1), (2, 1), (2, 1)]:  # once plainly, once to be recorded
            check(opened, (count, SHAPES[0]))
            assert (opened.executable.enqueued, len(opened.session._graphs)) == (count, recorded)


def test_a_kernel_with_a_state_has_one_of_its_own_for_each_shape(simulate: Simulate) -> None:
    with lane(simulate("cuda-python"), Stateful) as opened:
        for _ in range(4):
            check(opened, *((number, shape) for number, shape in enumerate(SHAPES)))
        assert len(opened.session._graphs) == 4
        assert opened.executable.enqueued == 4  # each shape, the first time
        assert [fork.enqueued for fork in opened.executable.forks] == [2] * 4
    assert all(fork.closed for fork in opened.executable.forks)


@pytest.mark.parametrize("make", [Weigh, Stateful])
@pytest.mark.parametrize("most", [1, 2])
def test_the_oldest_gives_way(simulate: Simulate, make: type[Weigh], most: int) -> None:
    with lane(simulate("cuda-python"), make, cuda_graphs=most) as opened:
        for turn in range(4):
            for shape in SHAPES[: most + 1]:
                check(opened, *((turn, shape),) * 3)
        assert len(opened.session._graphs) == most


@pytest.mark.parametrize("make", [Weigh, Stateful])
def test_nothing_gives_way_while_it_runs(simulate: Simulate, make: type[Weigh]) -> None:
    with lane(simulate("cuda-python"), make, cuda_graphs=1) as opened:  # late: what was started last has not run
        check(opened, (0, SHAPES[0]), *((number, SHAPES[1]) for number in range(3)))
        check(opened, (3, SHAPES[1]), (4, SHAPES[0]), (5, SHAPES[0]))
        assert len(opened.session._graphs) == 1


def test_many_shapes_that_come_once_are_not_recorded(simulate: Simulate) -> None:
    with lane(simulate("cuda-python"), cuda_graphs=2) as opened:
        for width in range(99, 0, -1):  # so that memory grows once
            check(opened, (width, (1, width)))
        assert len(opened.session._graphs) == 0
        assert len(opened.session._graphs._seen) == 16


def test_what_is_recorded_does_not_outlive_its_memory(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        check(opened, *((number, SHAPES[0]) for number in range(4)))
        check(opened, (0, (90, 90)))
        assert len(opened.session._graphs) == 0
        check(opened, *((number, SHAPES[0]) for number in range(4)))
        assert len(opened.session._graphs) == 1


@pytest.mark.parametrize(
    ("provider", "settings", "capturable"),
    [("pycuda", {}, True), ("cuda-python", {"cuda_graphs": 0}, True), ("cuda-python", {}, False)],
)
def test_where_nothing_can_be_recorded_all_runs_are_plain(
    simulate: Simulate, provider: str, settings: dict[str, int], capturable: bool
) -> None:
    def make(machine: Machine) -> Weigh:
        return Weigh(machine, capturable=capturable)

    with lane(simulate(provider), make, **settings) as opened:
        check(opened, *((number, SHAPES[0]) for number in range(5)))
        assert len(opened.session._graphs) == 0
        assert opened.executable.enqueued == 5


class Misfit(Weigh):
    """Says that it can be recorded, and cannot at some widths."""

    def prepare(self, shape: tuple[int, ...], capturing: bool) -> None:
        if capturing and shape[1] % 2:
            raise BackendError(f"width {shape[1]} allocates memory")
        super().prepare(shape, capturing)


class StatefulMisfit(Misfit, Stateful):
    """The same, with a state."""

    def fork(self) -> Stateful:
        self.forks.append(StatefulMisfit(self.machine))
        return self.forks[-1]


@pytest.mark.parametrize("make", [Misfit, StatefulMisfit])
def test_a_shape_that_cannot_be_recorded_runs_plainly_and_that_is_said_once(
    simulate: Simulate, caplog: pytest.LogCaptureFixture, make: type[Weigh]
) -> None:
    with lane(simulate("cuda-python"), make, cuda_graphs=3) as opened, caplog.at_level(logging.WARNING):
        check(opened, *((number, shape) for number in range(6) for shape in [(1, 3), (2, 4), (1, 5)]))
        assert len(opened.session._graphs) == 1
        assert caplog.text.count("cannot be captured") == 1
        assert "graph encoder: a run cannot be captured" in caplog.text
        assert "width 3 allocates memory" in caplog.text


def test_so_many_misfits_and_nothing_is_tried_any_more(simulate: Simulate) -> None:
    with lane(simulate("cuda-python"), Misfit, cuda_graphs=2) as opened:
        check(opened, *((number, (1, width)) for width in (3, 5) for number in range(3)))
        before = opened.executable.enqueued
        check(opened, *((number, (2, 4)) for number in range(4)))
        assert opened.executable.enqueued == before + 4


def test_nothing_is_recorded_while_the_gpu_is_nearly_full(simulate: Simulate) -> None:
    machine = simulate("cuda-python")
    with lane(machine) as opened:
        machine.memory.taken = machine.device.memory * 15 // 16
        check(opened, *((number, SHAPES[0]) for number in range(4)))
        assert len(opened.session._graphs) == 0
        machine.memory.taken = 0
        check(opened, *((number, SHAPES[0]) for number in range(2)))
        assert len(opened.session._graphs) == 1


def test_a_kernel_that_cannot_be_forked_runs_plainly(simulate: Simulate) -> None:
    class Only(Stateful):
        def fork(self) -> Stateful:
            raise BackendError("no memory for another context")

    with lane(simulate("cuda-python"), Only) as opened:
        check(opened, *((number, SHAPES[0]) for number in range(4)))
        assert len(opened.session._graphs) == 0


def test_an_error_that_breaks_the_context_is_no_misfit(simulate: Simulate) -> None:
    class Broken(Weigh):
        def prepare(self, shape: tuple[int, ...], capturing: bool) -> None:
            if capturing:
                raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS")

    with lane(simulate("cuda-python"), Broken) as opened:
        check(opened, (0, SHAPES[0]))
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            opened.session.start(feeds(1, SHAPES[0]))
        assert opened.woken == 1


def test_memory_that_is_not_there_now_is_asked_for_again(simulate: Simulate) -> None:
    class Late(Stateful):
        free = False

        def fork(self) -> Stateful:
            if not self.free:
                raise CudaError("CUDA_ERROR_OUT_OF_MEMORY")
            return super().fork()

    with lane(simulate("cuda-python"), Late, cuda_graphs=1) as opened:
        check(opened, *((number, SHAPES[0]) for number in range(6)))
        assert len(opened.session._graphs) == 0
        opened.executable.free = True
        check(opened, *((number, SHAPES[0]) for number in range(6)))
        assert len(opened.session._graphs) == 1


def test_a_fork_is_closed_where_there_is_no_event_for_it(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise CudaError("CUDA_ERROR_OUT_OF_MEMORY")

    with lane(simulate("cuda-python"), Stateful) as opened:
        check(opened, (0, SHAPES[0]))
        monkeypatch.setattr(opened.session._lane.driver, "event", full)
        check(opened, (1, SHAPES[0]))
        monkeypatch.undo()
        assert [fork.closed for fork in opened.executable.forks] == [True]

"""Order and virtual time: what may run when, and how long it is said to have taken."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulated.clock import Clock, Cost
from tests.simulated.machine import Machine
from tests.simulated.rig import NBYTES, Lane, entered


def same(machine: Machine, seconds: float) -> Machine:
    """Let every copy take this long."""
    machine.cost = Cost(copy_in_bandwidth=1e18, copy_out_bandwidth=1e18, latency=seconds)
    return machine


def test_late_runs_nothing_before_somebody_waits_and_then_only_what_is_needed() -> None:
    machine = entered(order="late")
    one, other = Lane(machine), Lane(machine)
    one.begin(1)
    other.begin(1)
    assert machine.timeline == []
    one.wait()
    assert {each.stream for each in machine.timeline} == {one.stream}
    assert len(machine.timeline) == 3


def test_asking_lets_work_go_on() -> None:
    machine = entered(order="late")
    lane = Lane(machine)
    lane.begin(1)
    answers = [machine.query(lane.event) for _ in range(5)]
    assert answers == [False] * 4 + [True]


def test_eager_runs_everything_at_once() -> None:
    machine = entered(order="eager")
    lane = Lane(machine)
    lane.begin(1)
    assert machine.query(lane.event)


def test_a_seed_decides_the_order() -> None:
    def run(seed: int) -> list[str]:
        machine = same(entered(order="random", seed=seed), 1)
        ran: list[str] = []
        machine.scheduler.before = lambda op: ran.append(f"{op.stream.handle} {op.name}")
        lanes = [Lane(machine) for _ in range(3)]
        for lane in lanes:
            lane.begin(1, seconds=1)
        for lane in lanes:
            lane.wait()
        return ran

    assert run(1) == run(1)
    assert len({tuple(run(seed)) for seed in range(5)}) > 1


@pytest.mark.parametrize("order", ["late", "eager"])
def test_one_stream_adds_up_and_three_overlap(order: str) -> None:
    def spent(lanes: int) -> float:
        machine = same(entered(order=order), 1)
        made = [Lane(machine) for _ in range(lanes)]
        for number in range(6):
            lane = made[number % lanes]
            if number >= lanes:
                lane.wait()
            lane.begin(1, seconds=1)
        for lane in made:
            lane.wait()
        return machine.now()

    assert spent(1) == 18  # six batches of three steps
    assert spent(3) == 8  # the engines are always busy: two steps to fill, then a batch a second


def test_a_thread_that_is_busy_enqueues_later() -> None:
    machine = same(entered(), 1)
    lane = Lane(machine)
    machine.spend(10)
    lane.begin(1, seconds=2)
    lane.wait()
    assert machine.now() == 14
    assert [(each.engine, each.start, each.end) for each in machine.timeline] == [
        ("copy-in", 10, 11),
        ("compute", 11, 13),
        ("copy-out", 13, 14),
    ]


def test_a_stream_that_waits_for_another_begins_after_it() -> None:
    machine = same(entered(), 1)
    one, other = Lane(machine), Lane(machine)
    one.begin(1, seconds=2)
    machine.wait_for(other.stream, one.event)
    other.begin(1)
    other.wait()
    assert machine.now() == 4 + 2  # its kernel takes no time


def test_an_engine_fills_its_gaps() -> None:
    clock = Clock()
    clock.use("compute", 1, "late", 10, 5)
    assert clock.use("compute", 2, "fits before", 0, 10) == (0, 10)
    assert clock.use("compute", 2, "fits nowhere", 0, 1) == (15, 16)
    assert clock.use("copy-in", 2, "on another engine", 0, 1) == (0, 1)


def test_time_between_events() -> None:
    machine = same(entered(), 1)
    lane, start = Lane(machine), machine.event().handle
    machine.record(start, lane.stream)
    lane.begin(1, seconds=2)
    lane.wait()
    assert machine.elapsed(start, lane.event) == 4


def test_copies_cost_by_their_bytes() -> None:
    cost = Cost(copy_in_bandwidth=100, copy_out_bandwidth=200, latency=1)
    assert (cost.copy_in(NBYTES), cost.copy_out(NBYTES)) == (1 + NBYTES / 100, 1 + NBYTES / 200)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=20))
def test_an_engine_does_one_thing_at_a_time(wanted: list[tuple[int, int]]) -> None:
    clock = Clock()
    for earliest, seconds in wanted:
        start, end = clock.use("compute", 1, "k", earliest, seconds)
        assert start >= earliest
        assert end - start == seconds
    ends = [each.end for each in clock.timeline]
    starts = [each.start for each in clock.timeline]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))

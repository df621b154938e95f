"""The choice of lanes x threads, under a virtual clock."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import pytest

from embedge.backends.cores import LaneSplit, candidates, choose, cores, device, step_back


class Machine:
    """Virtual time, in which a run of an option costs what the test says; lanes run side by side."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.lock = threading.Lock()  # guards the virtual time, which all lanes' threads move
        self.runs: dict[int, int] = dict.fromkeys(seconds, 0)
        self.open: list[Work] = []
        self.fails = 0  # the option, by its lanes, whose workers fail

    def clock(self) -> float:
        return self.now

    def opener(self, slots: LaneSplit) -> Work:
        return Work(self, slots)


class Work:
    """One lane's worker; it is opened, run and closed in one thread."""

    def __init__(self, machine: Machine, slots: LaneSplit) -> None:
        self.machine, self.split, self.thread = machine, slots, threading.get_ident()
        with machine.lock:
            machine.open.append(self)

    def __call__(self) -> int:
        assert threading.get_ident() == self.thread
        with self.machine.lock:
            self.machine.now += self.machine.seconds[self.split.lanes] / self.split.lanes
            self.machine.runs[self.split.lanes] += 1
        if self.machine.fails == self.split.lanes:
            raise RuntimeError("out of memory")
        return 1

    def close(self) -> None:
        assert threading.get_ident() == self.thread
        self.machine.open.remove(self)


OPTIONS = [LaneSplit(1, 4), LaneSplit(2, 2), LaneSplit(4, 1)]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1e-4, 2: 1e-4, 4: 1e-4}, 4),  # threads inside a run gain nothing
        ({1: 1e-4, 2: 2e-4, 4: 4e-4}, 1),  # they gain all: no more lanes than needed
        ({1: 1e-4, 2: 1.2e-4, 4: 9e-4}, 2),
        ({1: 1e-4, 2: 1.94e-4, 4: 3.9e-4}, 1),  # 3 % are not worth the lone request's threads
    ],
)
def test_the_option_with_the_most_work_wins_if_it_is_worth_it(seconds: dict[int, float], best: int) -> None:
    machine = Machine(seconds)

    chosen = choose(OPTIONS, machine.opener, clock=machine.clock)

    assert (chosen.lanes, chosen.threads) == (best, 4 // best)
    assert all(f"{option.lanes}x{option.threads}" in chosen.reason for option in OPTIONS)
    assert machine.now < 1.0
    assert min(machine.runs.values()) >= 2
    assert not machine.open


def test_what_cannot_run_is_raised_with_nothing_left_open() -> None:
    machine = Machine({1: 1e-4, 2: 1e-4, 4: 1e-4})
    machine.fails = 2

    with pytest.raises(RuntimeError, match="out of memory"):
        choose(OPTIONS, machine.opener, clock=machine.clock)

    assert not machine.open


@pytest.mark.parametrize(
    ("count", "cuts"),
    [
        (1, [(1, 1)]),
        (2, [(1, 2), (2, 1)]),
        (3, [(1, 3), (2, 1), (3, 1)]),
        (6, [(1, 6), (2, 3), (4, 1), (6, 1)]),
        (8, [(1, 8), (2, 4), (4, 2), (8, 1)]),
    ],
)
def test_candidates_never_take_more_cores_than_there_are(count: int, cuts: list[tuple[int, int]]) -> None:
    assert [(option.lanes, option.threads) for option in candidates(count)] == cuts
    assert all(option.lanes * option.threads <= count for option in candidates(count))


def test_this_machine_has_cores_and_a_name() -> None:
    assert cores() >= 1
    assert device()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere niceness is the whole process's")
def test_a_thread_that_steps_back_is_nicer_and_so_are_those_that_it_starts() -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    def compute() -> None:
        step_back()
        look()
        run(look)

    def run(what: Callable[[], None]) -> None:
        thread = threading.Thread(target=what)
        thread.start()
        thread.join()

    run(compute)
    look()

    before = seen[2]
    assert seen[:2] == [min(19, before + 5)] * 2

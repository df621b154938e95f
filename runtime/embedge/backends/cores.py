"""How to split a machine's cores into lanes: few lanes of many threads or many of few. Measured, not guessed."""

from __future__ import annotations

import math
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

__all__ = ["LaneSplit", "TrialWorker", "candidates", "choose", "cores", "device", "step_back"]

_ROUNDS = 3
_ROUND_SECONDS = 0.04
# More lanes have to win by this factor: a lone request loses the threads of the other lanes.
_WORTH = 1.05
# How much nicer lanes are than the threads that answer. On fully loaded cores, a refusal then took 1.5 ms (median; 60
# at the 99th percentile) instead of 5 (300), at the same throughput.
_NICENESS = 5


class LaneSplit(msgspec.Struct, frozen=True):
    """A split into lanes.

    Attributes:
        lanes: Number of lanes.
        threads: Compute threads of each lane.
        reason: Why this split was chosen.
    """

    lanes: Annotated[int, msgspec.Meta(ge=1)]
    threads: Annotated[int, msgspec.Meta(ge=1)]
    reason: str = ""


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_back() -> None:
    """Lower the priority of this thread, and of threads it starts, below that of the threads that answer.

    On Linux only; elsewhere niceness belongs to the whole process.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def device() -> str:
    """Return the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return named[0] if named else platform.processor() or platform.machine()


def candidates(count: int) -> list[LaneSplit]:
    """Return the splits of `count` cores that are worth measuring: 1, 2, 4 … lanes, up to one per core."""
    lanes = sorted({1, count} | {1 << power for power in range(count.bit_length()) if 1 << power < count})
    return [LaneSplit(number, max(1, count // number)) for number in lanes]


class TrialWorker(Protocol):
    """The work of one lane in a trial."""

    def __call__(self) -> int:
        """Do a little work, and return its amount."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


def choose(
    options: list[LaneSplit],
    opener: Callable[[LaneSplit], TrialWorker],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> LaneSplit:
    """Return the split that does the most work when every lane is busy. Raises what `opener` and its workers raise.

    Options take turns, round by round, so that a disturbance hits all of them alike.

    Args:
        options: Splits to compare, the preferred first.
        opener: Opens the worker of one lane. Each lane has a thread that opens, runs and closes its worker.
        clock: Returns seconds.
    """
    teams = {option: _Team(option) for option in options}
    rates: dict[LaneSplit, list[float]] = {option: [] for option in options}
    try:
        for team in teams.values():
            team.open(opener)
        for _ in range(_ROUNDS):
            for option, team in teams.items():
                rates[option].append(team.rate(clock))
    finally:
        for team in teams.values():
            team.close()
    medians = {option: sorted(figures)[len(figures) // 2] for option, figures in rates.items()}
    best = options[0]
    for option in options[1:]:
        if medians[option] > medians[best] * _WORTH:
            best = option
    figures = ", ".join(f"{o.lanes}x{o.threads}: {medians[o] / medians[options[0]]:.2f}" for o in options)
    return LaneSplit(best.lanes, best.threads, f"most work when busy (lanes x threads, relative: {figures})")


class _Team:
    """The lanes of one option: a thread for each, owned by the trial, and its worker."""

    def __init__(self, option: LaneSplit) -> None:
        self._option = option
        self._lanes: list[tuple[ThreadPoolExecutor, TrialWorker]] = []

    def open(self, opener: Callable[[LaneSplit], TrialWorker]) -> None:
        """Open every lane's worker, and let it work once, so that one-time allocations are not measured."""
        for _ in range(self._option.lanes):
            thread = ThreadPoolExecutor(1, "embedge-trial")
            try:
                self._lanes.append((thread, thread.submit(opener, self._option).result()))
            except BaseException:
                thread.shutdown()
                raise
        for thread, worker in self._lanes:
            thread.submit(worker).result()

    def rate(self, clock: Callable[[], float]) -> float:
        """Return the work per second while all lanes work for a moment."""
        start = clock()

        def repeat(worker: TrialWorker) -> int:
            done = 0
            while clock() - start < _ROUND_SECONDS:
                done += worker()
            return done

        done = sum([each.result() for each in [thread.submit(repeat, worker) for thread, worker in self._lanes]])
        return done / max(clock() - start, math.ulp(1.0))

    def close(self) -> None:
        """Close the workers, and end the threads."""
        for thread, worker in self._lanes:
            try:
                thread.submit(worker.close).result()
            finally:
                thread.shutdown()

"""How a machine's cores are cut into lanes: few lanes of many threads, or many of few. Measured, not guessed."""

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
# More lanes must win by this factor: they cost the lone request the threads that it no longer gets.
_WORTH = 1.05
# By how much lanes are nicer than the threads that answer: on cores that compute all the time, a refusal then came in
# 1.5 ms (median, 60 ms at the 99th percentile) instead of 5 (300), and as many vectors a second.
_NICENESS = 5


class LaneSplit(msgspec.Struct, frozen=True):
    """`lanes` execution slots with `threads` compute threads each, and why."""

    lanes: Annotated[int, msgspec.Meta(ge=1)]
    threads: Annotated[int, msgspec.Meta(ge=1)]
    reason: str = ""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_back() -> None:
    """Let this thread, and those that it starts, give way to all others: they compute, and others answer meanwhile.

    On Linux only: elsewhere niceness is the whole process's.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _NICENESS)


def device() -> str:
    """Return the processor's own name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return named[0] if named else platform.processor() or platform.machine()


def candidates(count: int) -> list[LaneSplit]:
    """Return the ways to cut `count` cores that are worth trying: 1, 2, 4 … lanes up to one a core."""
    lanes = sorted({1, count} | {1 << power for power in range(count.bit_length()) if 1 << power < count})
    return [LaneSplit(number, max(1, count // number)) for number in lanes]


class TrialWorker(Protocol):
    """What one lane of a trial does: called, it runs a little work and returns its amount."""

    def __call__(self) -> int:
        """Work a little, and return how much."""
        ...

    def close(self) -> None:
        """Free what is open; it works no more."""
        ...


def choose(
    options: list[LaneSplit],
    opener: Callable[[LaneSplit], TrialWorker],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> LaneSplit:
    """Return the option that does the most work when every lane is busy. Raises what `opener` and its workers raise.

    `opener(slots)` opens the worker of one lane. Each lane has a thread, in which its worker is opened, run and closed.
    Options take turns, round by round, so that a disturbance hits all of them alike.
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
    """The lanes of one option: a thread each, owned by the trial, and what is open in it."""

    def __init__(self, option: LaneSplit) -> None:
        self._option = option
        self._lanes: list[tuple[ThreadPoolExecutor, TrialWorker]] = []

    def open(self, opener: Callable[[LaneSplit], TrialWorker]) -> None:
        """Open every lane's worker, and let it work once: that pays for what is allocated once."""
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
        """Return the work a second while all lanes work for a moment."""
        start = clock()

        def repeat(worker: TrialWorker) -> int:
            done = 0
            while clock() - start < _ROUND_SECONDS:
                done += worker()
            return done

        done = sum([each.result() for each in [thread.submit(repeat, worker) for thread, worker in self._lanes]])
        return done / max(clock() - start, math.ulp(1.0))

    def close(self) -> None:
        """Close what is open, and end the threads."""
        for thread, worker in self._lanes:
            try:
                thread.submit(worker.close).result()
            finally:
                thread.shutdown()

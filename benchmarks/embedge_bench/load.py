"""Load: how requests are sent, and what came of each.

A closed loop has a fixed number of callers, each sending its next request when the last is answered: it measures
capacity, and is blind to what a user feels when the target stalls, because it then sends nothing. An open loop sends
by a timetable, whatever the target does, and counts latency from the time the request *should* have left.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from embedge.errors import InvalidInput
from embedge_bench.targets.base import Answer

__all__ = [
    "Clock",
    "Limit",
    "Query",
    "Shot",
    "SystemClock",
    "closed_loop",
    "open_loop",
    "poisson",
    "queries",
    "recorded",
]


class Clock(Protocol):
    """Time in seconds, real or virtual."""

    def now(self) -> float:
        """Return the time."""
        ...

    def wait_until(self, moment: float) -> None:
        """Return at `moment`, or at once if it has passed."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the monotonic time."""
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        """Sleep until `moment`."""
        left = moment - self.now()
        if left > 0:
            time.sleep(left)


@dataclass(frozen=True, slots=True)
class Query:
    """The texts of one request, their places in the workload, and their size together in its unit."""

    texts: tuple[str, ...]
    places: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Limit:
    """When to stop sending: after so many seconds, or so many requests, whichever comes first."""

    seconds: float
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """One request sent. Times in seconds after the round began.

    intended: when it should have left; started: when it left. Either an answer or an error.
    """

    query: Query
    intended: float
    started: float
    ended: float
    answer: Answer | None = None
    error: Exception | None = None

    @property
    def latency(self) -> float:
        """Seconds that a user waited: from when the request should have left."""
        return self.ended - self.intended


Send = Callable[[Query], Answer]


def closed_loop(send: Send, feed: Iterable[Query], *, callers: int, limit: Limit, clock: Clock) -> list[Shot]:
    """Send from `callers` threads, each one request at a time."""
    shared = _Shared(islice(feed, limit.count))
    shots: list[Shot] = []
    start = clock.now()

    def caller() -> None:
        while clock.now() - start < limit.seconds and (query := shared.next()) is not None:
            shots.append(_shoot(send, query, None, start, clock))

    with ThreadPoolExecutor(callers, thread_name_prefix="caller") as pool:
        for done in [pool.submit(caller) for _ in range(callers)]:
            done.result()
    return shots


def open_loop(
    send: Send, feed: Iterable[Query], arrivals: Iterable[float], *, limit: Limit, clock: Clock, pool: Executor
) -> list[Shot]:
    """Send at `arrivals` (seconds after the start, ascending), each request in a thread of `pool`.

    A request that has to wait for a thread, or that leaves late for any other reason, is that much slower.
    """
    start = clock.now()
    flying: list[Future[Shot]] = []
    for query, arrival in zip(islice(feed, limit.count), arrivals, strict=False):
        if arrival >= limit.seconds:
            break
        clock.wait_until(start + arrival)
        flying.append(pool.submit(_shoot, send, query, arrival, start, clock))
    return [shot.result() for shot in flying]


def _shoot(send: Send, query: Query, intended: float | None, start: float, clock: Clock) -> Shot:
    started = clock.now() - start
    due = started if intended is None else intended
    try:
        answer = send(query)
    except Exception as error:  # whatever a target raises is a failed request, counted by kind
        return Shot(query, due, started, clock.now() - start, error=error)
    return Shot(query, due, started, clock.now() - start, answer)


def poisson(rate: float, seed: int | str) -> Iterator[float]:
    """Yield arrival times of independent users, `rate` a second on average."""
    dice = random.Random(seed)  # reproducible, not secret
    moment = 0.0
    while True:
        moment += dice.expovariate(rate)
        yield moment


def recorded(path: Path) -> list[float]:
    """Return the arrival times of a file: a number of seconds a line, the first becoming 0. Raises InvalidInput."""
    try:
        times = sorted(float(line) for line in path.read_text("utf-8").split())
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: not valid UTF-8 at byte {error.start}; it must hold numbers of seconds") from error
    except ValueError as error:
        raise InvalidInput(f"{path}: {error}; it must hold one number of seconds a line") from error
    if not times or not all(math.isfinite(moment) for moment in times):
        raise InvalidInput(f"{path}: holds no arrivals, or one that is no number; give one number of seconds a line")
    return [moment - times[0] for moment in times]


def queries(
    texts: Sequence[str], sizes: Sequence[int], *, batch: int, seed: int | str, sort: bool = False
) -> Iterator[Query]:
    """Yield requests of `batch` texts without end: the texts in random order, over and over.

    sort: put texts of like size into one request, then shuffle the requests.
    """
    dice = random.Random(seed)  # reproducible, not secret
    while True:
        order = list(range(len(texts)))
        dice.shuffle(order)
        if sort:
            order.sort(key=sizes.__getitem__)
        groups = [tuple(order[at : at + batch]) for at in range(0, len(order), batch)]
        if sort:
            dice.shuffle(groups)
        for places in groups:
            yield Query(tuple(texts[place] for place in places), places, sum(sizes[place] for place in places))


T = TypeVar("T")


class _Shared(Generic[T]):
    """An iterator that several threads take from."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._lock = threading.Lock()  # held by a caller while it takes its next query

    def next(self) -> T | None:
        """Return the next item, None at the end."""
        with self._lock:
            return next(self._items, None)

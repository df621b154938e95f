"""Load: sending requests and recording their outcome.

A closed loop has a fixed number of callers. Each sends its next request after the last reply. It measures capacity, but
hides stalls of the target: it sends nothing during one. An open loop sends by a timetable, independent of the target,
and counts latency from the time the request *should* have left.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

from embedge.errors import BackendError, InvalidInput
from embedge_bench.targets.base import TargetReply

__all__ = [
    "Clock",
    "Query",
    "Sample",
    "SendLimit",
    "SystemClock",
    "closed_loop",
    "closed_loop_in_one_thread",
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
    """The machine's clock."""

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
class SendLimit:
    """When to stop sending: after so many seconds, or so many requests, whichever comes first."""

    seconds: float
    count: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One request sent. Times in seconds after the round began.

    intended: when it should have left; started: when it left. Either an answer or an error.
    """

    query: Query
    intended: float
    started: float
    ended: float
    answer: TargetReply | None = None
    error: Exception | None = None

    @property
    def latency(self) -> float:
        """Seconds a user waited, from the intended start."""
        return self.ended - self.intended


Send = Callable[[Query], TargetReply]
Submit = Callable[[Query], "Future[TargetReply]"]


def closed_loop(send: Send, feed: Iterable[Query], *, callers: int, limit: SendLimit, clock: Clock) -> list[Sample]:
    """Send from `callers` threads, each one request at a time."""
    shared = _Shared(islice(feed, limit.count))
    samples: list[Sample] = []
    start = clock.now()

    def caller() -> None:
        while clock.now() - start < limit.seconds and (query := shared.next()) is not None:
            samples.append(_send_and_wait(send, query, start, clock))

    with ThreadPoolExecutor(callers, thread_name_prefix="caller") as pool:
        for done in [pool.submit(caller) for _ in range(callers)]:
            done.result()
    return samples


def closed_loop_in_one_thread(
    submit: Submit, feed: Iterable[Query], *, callers: int, limit: SendLimit, clock: Clock
) -> list[Sample]:
    """Run a closed loop without a thread per caller: each reply triggers the next request from this thread.

    This takes less of the measured machine on targets with cheap asynchronous requests.
    """
    left = islice(feed, limit.count)
    ended: SimpleQueue[Sample] = SimpleQueue()
    samples: list[Sample] = []
    start = clock.now()

    def send_next() -> int:
        now = clock.now() - start
        query = next(left, None) if now < limit.seconds else None
        if query is not None:
            _send_later(submit, query, now, start, clock).add_done_callback(lambda sample: ended.put(sample.result()))
        return query is not None

    in_flight = sum(send_next() for _ in range(callers))
    while in_flight:
        samples.append(ended.get())
        in_flight += send_next() - 1
    return samples


def open_loop(
    submit: Submit, feed: Iterable[Query], arrivals: Iterable[float], *, limit: SendLimit, clock: Clock
) -> list[Sample]:
    """Send at `arrivals` (seconds after the start, ascending), independent of earlier requests.

    Lateness counts as latency.
    """
    start = clock.now()
    in_flight: list[Future[Sample]] = []
    for query, arrival in zip(islice(feed, limit.count), arrivals, strict=False):
        if arrival >= limit.seconds:
            break
        clock.wait_until(start + arrival)
        in_flight.append(_send_later(submit, query, arrival, start, clock))
    return [sample.result() for sample in in_flight]


def _send_and_wait(send: Send, query: Query, start: float, clock: Clock) -> Sample:
    """Send and wait."""
    started = clock.now() - start
    try:
        answer = _checked(send(query), query)
    except Exception as error:  # whatever a target raises is a failed request, counted by kind
        return Sample(query, started, started, clock.now() - start, error=error)
    return Sample(query, started, started, clock.now() - start, answer)


def _send_later(submit: Submit, query: Query, intended: float, start: float, clock: Clock) -> Future[Sample]:
    """Send without waiting; the sample ends in the replying thread."""
    started = clock.now() - start
    sample: Future[Sample] = Future()

    def done(source: Future[TargetReply]) -> None:
        ended = clock.now() - start
        try:
            sample.set_result(Sample(query, intended, started, ended, _checked(source.result(), query)))
        except Exception as error:
            sample.set_result(Sample(query, intended, started, ended, error=error))

    try:
        submit(query).add_done_callback(done)
    except Exception as error:  # refused before it left
        sample.set_result(Sample(query, intended, started, clock.now() - start, error=error))
    return sample


def _checked(answer: TargetReply, query: Query) -> TargetReply:
    """Return the answer if it has a vector for each text. Raises BackendError."""
    if len(answer.vectors) != len(query.texts):
        raise BackendError(f"{len(query.texts)} texts were sent and {len(answer.vectors)} vectors came back")
    return answer


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
    """An iterator shared by several threads."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._lock = threading.Lock()  # held by a caller while it takes its next query

    def next(self) -> T | None:
        """Return the next item, None at the end."""
        with self._lock:
            return next(self._items, None)

"""Load generators: what is sent when, and what counts as latency."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge.errors import InvalidInput, Overloaded
from embedge_bench.load import (
    Query,
    Sample,
    SendLimit,
    SystemClock,
    closed_loop,
    closed_loop_in_one_thread,
    open_loop,
    poisson,
    queries,
    recorded,
)
from embedge_bench.targets import TargetReply

VECTORS = np.zeros((1, 4), np.float32)
QUERY = Query(("a text",), (0,), 2)


class VirtualClock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wait_until(self, moment: float) -> None:
        self.time = max(self.time, moment)


def one_by_one(send: Callable[[Query], TargetReply]) -> Callable[[Query], Future[TargetReply]]:
    """Return a way to submit in virtual time: each request is answered before the next can leave."""

    def submit(query: Query) -> Future[TargetReply]:
        future: Future[TargetReply] = Future()
        future.set_result(send(query))
        return future

    return submit


def in_one_thread(send: Callable[[Query], TargetReply], *arguments: Any, **options: Any) -> list[Sample]:
    return closed_loop_in_one_thread(one_by_one(send), *arguments, **options)


CLOSED = pytest.mark.parametrize("loop", [closed_loop, in_one_thread])


class Stalling:
    """A target that takes 10 ms for a request, and once stalls for a second."""

    def __init__(self, clock: VirtualClock, stall_at: int) -> None:
        self._clock = clock
        self._calls = count()
        self._stall_at = stall_at

    def __call__(self, query: Query) -> TargetReply:
        self._clock.time += 1.0 if next(self._calls) == self._stall_at else 0.01
        return TargetReply(VECTORS)


def every(seconds: float) -> Any:
    return (number * seconds for number in count())


def endless() -> Any:
    while True:
        yield QUERY


def test_open_loop_shows_a_stall_in_every_later_latency() -> None:
    clock = VirtualClock()
    send = Stalling(clock, stall_at=10)
    samples = open_loop(one_by_one(send), endless(), every(0.02), limit=SendLimit(2.0), clock=clock)
    latencies = [sample.latency for sample in samples]
    assert latencies[:10] == pytest.approx([0.01] * 10)
    # The backlog of the stall shrinks by 10 ms a request, as 10 ms of work come every 20 ms.
    expected = [1.0 - 0.01 * place for place in range(90)]
    assert latencies[10:] == pytest.approx(expected)


@CLOSED
def test_closed_loop_hides_the_same_stall_in_one_latency(loop: Any) -> None:
    clock = VirtualClock()
    samples = loop(Stalling(clock, stall_at=10), endless(), callers=1, limit=SendLimit(2.0), clock=clock)
    assert sum(sample.latency > 0.011 for sample in samples) == 1


def test_open_loop_sends_by_the_timetable_whatever_the_target_does() -> None:
    clock = VirtualClock()
    samples = open_loop(
        one_by_one(Stalling(clock, 0)), endless(), [0.0, 0.5, 3.0, 9.0], limit=SendLimit(5.0), clock=clock
    )
    assert [sample.intended for sample in samples] == [0.0, 0.5, 3.0]
    assert [sample.started for sample in samples] == pytest.approx([0.0, 1.0, 3.0])


@CLOSED
@pytest.mark.parametrize("limit", [SendLimit(1e9, 7), SendLimit(0.065)])
def test_closed_loop_stops_at_count_or_time(loop: Any, limit: SendLimit) -> None:
    clock = VirtualClock()
    assert len(loop(Stalling(clock, -1), endless(), callers=1, limit=limit, clock=clock)) == 7


def test_open_loop_stops_at_count() -> None:
    clock = VirtualClock()
    samples = open_loop(one_by_one(Stalling(clock, -1)), endless(), every(0.1), limit=SendLimit(1e9, 3), clock=clock)
    assert len(samples) == 3


def test_closed_loop_has_as_many_requests_on_their_way_as_callers() -> None:
    together = threading.Barrier(4, timeout=30)

    def send(_: Query) -> TargetReply:
        together.wait()  # breaks unless four callers are inside at once
        return TargetReply(VECTORS)

    options: Any = {"callers": 4, "limit": SendLimit(1e9, 8), "clock": SystemClock()}
    with ThreadPoolExecutor(4) as pool:
        alone = closed_loop_in_one_thread(partial(pool.submit, send), endless(), **options)
    for samples in (closed_loop(send, endless(), **options), alone):
        assert [sample.error for sample in samples] == [None] * 8


def test_an_error_is_a_failed_request_and_the_load_goes_on() -> None:
    def refuse(query: Query) -> Any:
        raise Overloaded("full")

    def fail_later(query: Query) -> Future[TargetReply]:
        future: Future[TargetReply] = Future()
        future.set_exception(Overloaded("full"))
        return future

    limit, clock = SendLimit(1e9, 3), VirtualClock()
    for samples in (
        closed_loop(refuse, endless(), callers=1, limit=limit, clock=clock),
        closed_loop_in_one_thread(refuse, endless(), callers=1, limit=limit, clock=clock),
        closed_loop_in_one_thread(fail_later, endless(), callers=1, limit=limit, clock=clock),
        open_loop(refuse, endless(), every(0.1), limit=limit, clock=clock),
        open_loop(fail_later, endless(), every(0.1), limit=limit, clock=clock),
    ):
        assert [type(sample.error) for sample in samples] == [Overloaded] * 3


def test_an_answer_of_too_few_vectors_is_a_failed_request() -> None:
    def send(query: Query) -> TargetReply:
        return TargetReply(VECTORS[:0])

    limit, clock = SendLimit(1e9, 1), VirtualClock()
    (waited,) = closed_loop(send, endless(), callers=1, limit=limit, clock=clock)
    (flew,) = open_loop(one_by_one(send), endless(), every(0.1), limit=limit, clock=clock)
    assert "1 texts were sent and 0 vectors came back" in str(waited.error) == str(flew.error)


def test_poisson_arrivals_have_the_rate_and_spread_of_independent_users() -> None:
    gaps = np.diff(list(islice(poisson(50.0, seed=1), 20_000)))
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1 / 50, rel=0.03)
    assert gaps.std() == pytest.approx(1 / 50, rel=0.03)


def test_poisson_is_the_same_for_the_same_seed() -> None:
    first, again, other = (list(islice(poisson(5.0, seed), 10)) for seed in (1, 1, 2))
    assert first == again != other


def test_queries_send_every_text_once_before_any_comes_again() -> None:
    texts = [f"text {number}" for number in range(10)]
    feed = queries(texts, [1] * 10, batch=3, seed=0)
    for _ in range(2):
        places = [place for query in islice(feed, 4) for place in query.places]
        assert sorted(places) == list(range(10))


def test_sorted_queries_hold_texts_of_like_size_in_random_order() -> None:
    sizes = random.Random(0).sample(range(1000), 64)
    batches = list(islice(queries([""] * 64, sizes, batch=8, seed=0, sort=True), 8))
    ranges = sorted((min(sizes[p] for p in b.places), max(sizes[p] for p in b.places)) for b in batches)
    assert all(high < low for (_, high), (low, _) in pairwise(ranges))
    assert [b.size for b in batches] != sorted(b.size for b in batches)


def test_recorded_arrivals_begin_at_zero_in_order(tmp_path: Path) -> None:
    file = tmp_path / "arrivals.txt"
    file.write_text("12.5\n10\n11e0\n")
    assert recorded(file) == [0.0, 1.0, 2.5]


@pytest.mark.parametrize("content", [b"", b"1\ntwo\n", b"\xff\xfe", b"1\nnan\n2\n", b"1\ninf\n"])
def test_bad_recordings_are_refused_with_the_file_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "arrivals.txt"
    file.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"arrivals\.txt"):
        recorded(file)

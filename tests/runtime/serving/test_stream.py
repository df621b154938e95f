"""Streams: replies as they are ready, reading that stops at the bound, errors that end only their request."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedge import AsyncClient, Client, DeadlineExceeded, NotFound, Reply, Request
from embedge.serving.models import Models
from embedge.serving.servicer import EmbedgeServicer
from embedge.v1 import embedge_pb2 as pb
from tests.servers import Played, played_model, serving


def one(text: str, **options: object) -> Request:
    return Request(items=[text], **options)


def first_value(answer: tuple[int, object]) -> tuple[int, float]:
    number, reply = answer
    assert isinstance(reply, Reply)
    return number, float(reply.vectors[0, 0])


async def test_replies_come_as_they_are_ready(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address) as client:
        answers = client.stream("tiny", [one("a"), one("b"), one("c")])
        next_answer = asyncio.ensure_future(anext(answers))
        calls = [await model.call() for _ in range(3)]
        order = [2, 0, 1]
        seen = []
        for place in order:
            request, future = calls[place]
            future.set_result(model.reply(request, value=place))
            seen.append(first_value(await next_answer))
            next_answer = asyncio.ensure_future(anext(answers))
        assert seen == [(2, 2.0), (0, 0.0), (1, 1.0)]
        with pytest.raises(StopAsyncIteration):
            await next_answer


class CountingContext:
    """A stream whose client always has another message ready, and never stops."""

    def __init__(self) -> None:
        self.reads = 0
        self.written: list[pb.EmbedStreamReply] = []

    def time_remaining(self) -> None:
        return None

    async def read(self) -> bytes:
        self.reads += 1
        message = pb.EmbedStreamRequest(id=self.reads, request=pb.EmbedRequest(model="tiny", texts=[b"a"]))
        return message.SerializeToString()

    async def write(self, data: bytes) -> None:
        self.written.append(pb.EmbedStreamReply.FromString(data))


async def turns(count: int) -> None:
    """Give every task that can go on the chance to do so, `count` times."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_reading_stops_at_the_bound(engines: Path) -> None:
    model = played_model(engines)
    models = Models()
    models.repository = Played(model)
    servicer = EmbedgeServicer(models, stream_in_flight=3, max_message_bytes=1 << 20)
    context = CountingContext()
    stream = asyncio.ensure_future(servicer.embed_stream(context))
    calls = [await model.call() for _ in range(3)]
    await turns(100)
    assert (context.reads, model.calls.qsize()) == (3, 0)
    request, future = calls[1]
    future.set_result(model.reply(request))
    await model.call()  # one answer makes room for one request
    await turns(100)
    assert (context.reads, model.calls.qsize()) == (4, 0)
    assert [reply.id for reply in context.written] == [2]
    stream.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stream


async def test_a_client_that_leaves_cancels_what_it_asked_for(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address) as client:
        unary = asyncio.ensure_future(client.embed("tiny", ["a"]))
        streamed = asyncio.ensure_future(anext(client.stream("tiny", [one("a"), one("b")])))
        futures = [(await model.call())[1] for _ in range(3)]
        for task in (unary, streamed):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        gone = [asyncio.wrap_future(future) for future in futures]
        await asyncio.wait_for(asyncio.wait(gone), 30)
        assert all(future.cancelled() for future in futures)


async def test_a_deadline_that_passes_cancels_the_call(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address) as client:
        call = asyncio.ensure_future(client.embed("tiny", ["a"], timeout=0.2))
        request, future = await model.call()
        assert request.deadline is not None
        assert request.deadline - time.monotonic() < 0.3
        with pytest.raises(DeadlineExceeded):
            await call
        await asyncio.wait_for(asyncio.wait([asyncio.wrap_future(future)]), 30)
        assert future.cancelled()


async def test_each_request_of_a_stream_has_its_own_deadline(engines: Path) -> None:
    model = played_model(engines)
    async with serving(model) as server, AsyncClient(server.address) as client:
        now = time.monotonic()
        requests = [one("late", deadline=now - 5), one("soon", deadline=now + 30), one("whenever")]
        answers = client.stream("tiny", requests, timeout=100)
        first = asyncio.ensure_future(anext(answers))
        limits = []
        for _ in requests:
            request, future = await model.call()
            assert request.deadline is not None
            limits.append(request.deadline - time.monotonic())
            future.set_result(model.reply(request))
        assert limits[0] < 0.002 < limits[1] < 31 < limits[2] < 101
        found = dict([await first, *[answer async for answer in answers]])
        assert sorted(found) == [0, 1, 2]
        # A server that is faster than its clock makes no answer of what came too late.
        assert isinstance(found[0], DeadlineExceeded)
        assert all(isinstance(found[number], Reply) for number in (1, 2))


@pytest.mark.parametrize("seconds", [math.inf, 1e10, 60 * 86400])
def test_a_deadline_far_away_does_not_end_the_stream(client: Client, seconds: float) -> None:
    answers = dict(client.stream("tiny", [one("a cat", deadline=time.monotonic() + seconds), one("a cat")]))
    assert (answers[0].vectors == answers[1].vectors).all()


def test_a_request_that_fails_does_not_end_the_stream(client: Client) -> None:
    requests = [one("a cat"), one("a cat", tower="image"), one("a cat", dim=99), one("a cat")]
    answers = dict(client.stream("tiny", requests))
    assert sorted(answers) == [0, 1, 2, 3]
    assert isinstance(answers[1], NotFound)
    assert "dim 99" in str(answers[2])
    assert (answers[0].vectors == answers[3].vectors).all()


def test_a_stream_of_an_unknown_model_answers_each_request(client: Client) -> None:
    answers = dict(client.stream("tini", [one("a"), one("b")]))
    assert {number: type(error) for number, error in answers.items()} == {0: NotFound, 1: NotFound}


def test_a_stream_of_nothing_ends(client: Client) -> None:
    assert list(client.stream("tiny", [])) == []


def test_many_more_requests_than_may_be_in_flight(client: Client) -> None:
    answers = dict(client.stream("tiny", (one("a cat") for _ in range(500))))
    assert sorted(answers) == list(range(500))


def test_what_the_requests_raise_reaches_the_reader(client: Client) -> None:
    def requests() -> Iterator[Request]:
        yield one("a cat")
        raise LookupError("the file ended early")

    answers = client.stream("tiny", requests())
    assert first_value(next(answers))[0] == 0
    with pytest.raises(LookupError, match="the file ended early"):
        next(answers)


def test_a_reader_may_leave_early(client: Client) -> None:
    answers = client.stream("tiny", (one("a cat") for _ in range(10_000)))
    next(answers)
    answers.close()
    assert client.embed("tiny", ["a cat"]).shape == (1, 16)


async def test_an_async_source_of_requests(address: str) -> None:
    async def requests():
        for text in ("a cat", "a dog"):
            yield one(text)

    async with AsyncClient(address) as client:
        assert sorted([number async for number, _ in client.stream("tiny", requests())]) == [0, 1]

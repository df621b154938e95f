"""The error table: docs/errors.md, the classes and the wire say the same, row by row."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from embedge import AsyncClient, Overloaded, Reply, Request, Unauthenticated, Unavailable, errors
from embedge.serving.config import ServeConfig
from embedge.serving.handlers import unary
from embedge.serving.server import Server
from embedge.v1 import embedge_pb2 as pb
from embedge.v1.embedge_pb2_grpc import EmbedgeStub
from embedge.wire.status import INTERNAL_TEXT, error_of
from tests.servers import played_model, serving


class Row(NamedTuple):
    exception: str
    grpc: str
    http: str


def table() -> list[Row]:
    text = (Path(__file__).parents[3] / "docs" / "errors.md").read_text(encoding="utf-8")
    return [Row(*cells) for cells in re.findall(r"^\| `(\w+)` \| `(\w+)` \| (\d+) \|", text, re.MULTILINE)]


def test_the_table_has_a_row_for_every_class() -> None:
    classes = {cls.__name__ for cls in errors.EmbedgeError.__subclasses__() if cls.__module__ == errors.__name__}
    assert {row.exception for row in table()} == classes


@pytest.mark.parametrize("row", table(), ids=lambda row: row.exception)
def test_the_table_says_what_the_class_says(row: Row) -> None:
    cls = getattr(errors, row.exception)
    assert (cls.grpc, str(cls.http)) == (row.grpc, row.http)


@pytest.mark.parametrize("row", table(), ids=lambda row: row.exception)
async def test_a_call_that_fails_has_the_status_and_the_client_raises_the_class(row: Row, engines: Path) -> None:
    cls = getattr(errors, row.exception)

    def fail(_: Request) -> Reply:
        raise cls("what is wrong, and what to do")

    async with serving(played_model(engines, script=fail)) as server, AsyncClient(server.address) as client:
        with pytest.raises(cls, match=r"^what is wrong, and what to do$") as raised:
            await client.embed("tiny", ["a"])
        assert type(raised.value) is cls
        assert raised.value.__cause__.code().name == row.grpc
        answers = [answer async for answer in client.stream("tiny", [Request(items=["a"])])]
        assert [(number, type(error), str(error)) for number, error in answers] == [(0, cls, str(raised.value))]


async def test_overloaded_says_when_to_come_back(engines: Path) -> None:
    def fail(_: Request) -> Reply:
        raise Overloaded("the queue is full", retry_after=2.5)

    async with serving(played_model(engines, script=fail)) as server, AsyncClient(server.address) as client:
        with pytest.raises(Overloaded) as raised:
            await client.embed("tiny", ["a"])
        assert raised.value.retry_after == 2.5
        [(_, error)] = [answer async for answer in client.stream("tiny", [Request(items=["a"])])]
        assert isinstance(error, Overloaded)
        assert error.retry_after == 2.5


async def test_any_client_can_read_the_retry_info(engines: Path) -> None:
    def fail(_: Request) -> Reply:
        raise Overloaded("the queue is full", retry_after=1.5)

    async with (
        serving(played_model(engines, script=fail)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await EmbedgeStub(channel).Embed(pb.EmbedRequest(model="tiny", texts=[b"a"]))
        [detail] = rpc_status.from_call(raised.value).details
        info = error_details_pb2.RetryInfo()
        assert detail.Unpack(info)
        assert info.retry_delay.ToMilliseconds() == 1500


async def test_an_unknown_error_leaks_nothing_and_is_logged(engines: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Request) -> Reply:
        raise ZeroDivisionError("the secret is 42")

    async with serving(played_model(engines, script=fail)) as server, AsyncClient(server.address) as client:
        with caplog.at_level(logging.ERROR), pytest.raises(errors.BackendError) as raised:
            await client.embed("tiny", ["a"])
        [(_, error)] = [answer async for answer in client.stream("tiny", [Request(items=["a"])])]
    assert str(raised.value) == str(error) == INTERNAL_TEXT
    assert "the secret is 42" in caplog.text
    assert "Traceback" in caplog.text


async def test_an_error_for_a_caller_who_left_is_nobodys(engines: Path) -> None:
    class Gone:
        async def abort(self, *_: object) -> None:
            raise grpc.aio.InternalError

    async def fail(_message: pb.EmbedRequest, _context: object) -> bytes:
        raise errors.DeadlineExceeded("too late")

    with pytest.raises(asyncio.CancelledError):
        await unary(fail, pb.EmbedRequest).unary_unary(b"", Gone())


async def test_an_error_that_comes_later_is_raised_like_one_that_comes_at_once(engines: Path) -> None:
    model = played_model(engines, script=None)
    async with serving(model) as server, AsyncClient(server.address) as client:
        running = client.stream("tiny", [Request(items=["a"])])
        task = asyncio.ensure_future(anext(running))
        _, future = await model.call()
        future.set_exception(errors.BackendError("a lane failed"))
        number, error = await task
        assert (number, type(error), str(error)) == (0, errors.BackendError, "a lane failed")


async def test_a_very_long_message_still_arrives_as_its_status(engines: Path) -> None:
    async with serving(played_model(engines)) as server, AsyncClient(server.address) as client:
        with pytest.raises(errors.NotFound, match=r"^model .*x…$"):
            await client.embed("\N{SNOWMAN}" + "x" * 100_000, ["a"])
        with pytest.raises(errors.NotFound):
            await client.embed("\N{SNOWMAN}" * 10_000, ["a"])


async def test_without_a_token_or_with_a_wrong_one_nothing_is_answered(engines: Path) -> None:
    model = played_model(engines)
    model.script = model.reply
    async with serving(model, token="secret") as server:
        for token in (None, "wrong", "secret ", "s"):
            async with AsyncClient(server.address, token=token) as client:
                with pytest.raises(Unauthenticated, match="Bearer"):
                    await client.embed("tiny", ["a"])
                with pytest.raises(Unauthenticated):
                    await client.models()
                with pytest.raises(Unauthenticated):
                    [answer async for answer in client.stream("tiny", [Request(items=["a"])])]
                await client.wait_ready(30)  # health needs no token
        async with AsyncClient(server.address, token="secret") as client:
            assert (await client.embed("tiny", ["a"])).shape == (1, 16)


async def test_while_models_are_loading_calls_are_told_to_come_back() -> None:
    server = Server(ServeConfig(repository=Path("unused"), port=0))
    await server.start()
    async with AsyncClient(server.address) as client:
        with pytest.raises(Unavailable, match="still loading"):
            await client.embed("tiny", ["a"])
    await server.stop()


async def test_no_server_at_the_address_is_said_so() -> None:
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"cannot reach a server at 127\.0\.0\.1:1"):
            await client.embed("tiny", ["a"])


async def test_bytes_that_are_no_message_are_refused_clearly(engines: Path) -> None:
    async with (
        serving(played_model(engines)) as server,
        grpc.aio.insecure_channel(server.address) as channel,
    ):
        for call in (channel.unary_unary("/embedge.v1.Embedge/Embed"), _first(channel)):
            with pytest.raises(grpc.aio.AioRpcError, match=r"the bytes sent are not a embedge\.v1\.Embed") as raised:
                await call(b"\xff\xff\xff")
            assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def _first(channel: grpc.aio.Channel) -> Callable[[bytes], Awaitable[object]]:
    async def call(data: bytes) -> object:
        return await channel.stream_stream("/embedge.v1.Embedge/EmbedStream")(iter([data])).read()

    return call


def test_a_call_that_the_server_gave_up_can_be_made_again() -> None:
    class Cancelled(grpc.RpcError):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.CANCELLED

        def details(self) -> str:
            return ""

    error = error_of(Cancelled(), address="there:1")
    assert isinstance(error, errors.Unavailable)
    assert "there:1" in str(error)

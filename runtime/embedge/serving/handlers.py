"""How a coroutine becomes a gRPC method: parse, call, and turn every error into a status.

Messages pass gRPC as bytes, both ways. So a message that cannot be parsed gets a clear status, and a large reply
is serialised where it is made, off the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from embedge.errors import BackendError, EmbedgeError, InvalidInput
from embedge.serving.letters import Letters
from embedge.wire.status import INTERNAL_TEXT, code_of, text_of, trailing_metadata

__all__ = ["fits", "known", "parse", "stream", "then", "unary", "within"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
T = TypeVar("T")
CallContext = grpc.aio.ServicerContext[Any, Any]


def unary(method: Callable[[M, CallContext], Awaitable[bytes]], kind: type[M]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler of a method that takes one `kind` message and returns the reply's bytes."""

    async def call(data: bytes, context: CallContext) -> bytes:
        try:
            return await method(parse(kind, data), context)
        except Exception as error:  # every error becomes a status; unknown ones are logged
            await _refuse(context, error)
            raise  # not reached: refusing ends the call

    return grpc.unary_unary_rpc_method_handler(call)


def stream(method: Callable[[CallContext], Awaitable[None]]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler of a method that reads and writes bytes on the context itself."""

    async def call(_requests: object, context: CallContext) -> None:
        try:
            await method(context)
        except Exception as error:  # every error becomes a status; unknown ones are logged
            await _refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(call)


def parse(kind: type[M], data: bytes) -> M:
    """Return the message that `data` holds. Raises InvalidInput."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise InvalidInput(
            f"the bytes sent are no {name}; generate the client's stubs from our .proto again"
        ) from error


def within(limit: int, data: bytes) -> bytes:
    """Return `data`. Raises InvalidInput if it is larger than a message may be."""
    fits(limit, len(data))
    return data


def fits(limit: int, size: int) -> None:
    """Raise InvalidInput if a reply of `size` bytes is larger than a message may be."""
    if size > limit:
        raise InvalidInput(
            f"the reply has {size:,} bytes, the server's limit is {limit:,} (--max-message-bytes); "
            "send fewer items a call, or ask for a smaller dim or dtype"
        )


def known(error: Exception) -> EmbedgeError:
    """Return the error as the client may see it: an unknown one is logged and replaced by a fixed text."""
    if isinstance(error, EmbedgeError):
        return error
    log.error("unexpected error while answering a call", exc_info=error)
    return BackendError(INTERNAL_TEXT)


async def then(future: Future[T], pack: Callable[[T], bytes]) -> bytes:
    """Wait for `future` and return `pack` of its result; `pack` runs on the thread that completes the future.

    If the waiter is cancelled, because the client left or its deadline passed, so is the future.
    """
    loop = asyncio.get_running_loop()
    letters = Letters.of(loop)
    answer: asyncio.Future[bytes] = loop.create_future()

    def complete(done: Future[T]) -> None:
        if done.cancelled():
            return
        try:
            letters.post(answer, pack(done.result()), None)
        except Exception as error:  # the waiter raises it
            letters.post(answer, None, error)

    future.add_done_callback(complete)
    try:
        return await answer
    except asyncio.CancelledError:
        future.cancel()
        raise


async def _refuse(context: CallContext, error: Exception) -> None:
    seen = known(error)
    try:
        await context.abort(code_of(seen), text_of(seen), trailing_metadata(seen))
    except grpc.aio.InternalError as gone:  # the caller left or its deadline passed: there is nobody to tell
        raise asyncio.CancelledError from gone

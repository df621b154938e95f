"""From coroutines to gRPC methods: parse, call, and turn every error into a status.

Messages pass through gRPC as bytes in both directions. So an unparsable message gets a clear status, and a large reply
is serialised in the thread of its result, off the event loop.
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
from embedge.serving.mailbox import LoopMailbox
from embedge.wire.status import INTERNAL_TEXT, code_of, text_of, trailing_metadata

__all__ = ["check_reply_size", "parse", "reply_bytes", "reply_when_done", "stream", "unary", "visible_error"]

log = logging.getLogger(__name__)

M = TypeVar("M", bound=Message)
T = TypeVar("T")
CallContext = grpc.aio.ServicerContext[Any, Any]


def unary(method: Callable[[M, CallContext], Awaitable[bytes]], kind: type[M]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler of a unary method: one `kind` message in, the bytes of the reply out."""

    async def call(data: bytes, context: CallContext) -> bytes:
        try:
            return await method(parse(kind, data), context)
        except Exception as error:  # every error becomes a status; unknown ones are logged
            await _refuse(context, error)
            raise  # not reached: refusing ends the call

    return grpc.unary_unary_rpc_method_handler(call)


def stream(method: Callable[[CallContext], Awaitable[None]]) -> grpc.RpcMethodHandler[Any, Any]:
    """Return the handler of a method with raw access to the stream of its context."""

    async def call(_requests: object, context: CallContext) -> None:
        try:
            await method(context)
        except Exception as error:  # every error becomes a status; unknown ones are logged
            await _refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(call)


def parse(kind: type[M], data: bytes) -> M:
    """Parse a message.

    Args:
        kind: The class of the message.
        data: Its bytes.

    Raises:
        InvalidInput: The bytes are not such a message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.full_name
        raise InvalidInput(
            f"the bytes sent are not a {name} message; generate the client's stubs from our .proto again"
        ) from error


def reply_bytes(message: Message, limit: int) -> bytes:
    """Serialize a reply.

    Args:
        message: The reply.
        limit: The largest message of this server, in bytes.

    Raises:
        InvalidInput: The reply is larger.
    """
    data = message.SerializeToString()
    check_reply_size(len(data), limit)
    return data


def check_reply_size(size: int, limit: int) -> None:
    """Refuse a reply of `size` bytes if the server's messages have at most `limit`.

    Raises:
        InvalidInput: The reply is larger.
    """
    if size > limit:
        raise InvalidInput(
            f"the reply has {size:,} bytes, the server's limit is {limit:,} (--max-message-bytes); "
            "send fewer items a call, or ask for a smaller dim or dtype"
        )


def visible_error(error: Exception) -> EmbedgeError:
    """Return the error for the client. An unexpected one is logged, and replaced by a fixed text."""
    if isinstance(error, EmbedgeError):
        return error
    log.error("unexpected error while answering a call", exc_info=error)
    return BackendError(INTERNAL_TEXT)


async def reply_when_done(future: Future[T], pack: Callable[[T], bytes]) -> bytes:
    """Wait for a result and return it packed.

    If the waiter is cancelled, because the client left or its deadline passed, so is the future.

    Args:
        future: The result to wait for.
        pack: Serializes the result, in the thread that completes the future.

    Returns:
        The bytes of the reply.
    """
    loop = asyncio.get_running_loop()
    mailbox = LoopMailbox.of(loop)
    answer: asyncio.Future[bytes] = loop.create_future()

    def complete(done: Future[T]) -> None:
        if done.cancelled():
            return
        try:
            mailbox.put(answer, pack(done.result()), None)
        except Exception as error:  # the waiter raises it
            mailbox.put(answer, None, error)

    future.add_done_callback(complete)
    try:
        return await answer
    except asyncio.CancelledError:
        future.cancel()
        raise


async def _refuse(context: CallContext, error: Exception) -> None:
    seen = visible_error(error)
    try:
        await context.abort(code_of(seen), text_of(seen), trailing_metadata(seen))
    except grpc.aio.InternalError as gone:  # the caller left or its deadline passed: nobody is waiting
        raise asyncio.CancelledError from gone

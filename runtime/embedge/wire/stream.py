"""The client's half of a stream: numbered messages for requests, and answers from messages."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from embedge.errors import DeadlineExceeded, EmbedgeError, Overloaded, from_status
from embedge.request import Reply, Request, as_request
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.convert import reply_from_proto, request_to_proto

__all__ = ["Feed", "StreamAnswer"]

StreamAnswer = tuple[int, "Reply | EmbedgeError"]

# The largest value of the message's field: 49 days.
_MAX_MS = (1 << 32) - 1


class Feed:
    """The messages and answers of a stream.

    An exception from the user's requests ends the stream, and `check` raises it. gRPC takes the messages in its own
    thread, and would replace the exception by a status.
    """

    def __init__(self, model: str, max_message_bytes: int) -> None:
        self._model = model
        self._max_message_bytes = max_message_bytes
        self._error: Exception | None = None
        # Numbers of requests whose deadline passed before they were sent. gRPC's thread adds; the caller's removes.
        self._late: set[int] = set()

    def messages(self, requests: Iterable[Request]) -> Iterator[pb.EmbedStreamRequest]:
        """Yield the message of each request."""
        try:
            for number, request in enumerate(requests):
                yield self._message(number, as_request(request, {}))
        except Exception as error:
            self._error = error

    async def async_messages(self, requests: AsyncIterable[Request]) -> AsyncIterator[pb.EmbedStreamRequest]:
        """Yield the message of each request."""
        number = 0
        try:
            async for request in requests:
                yield self._message(number, as_request(request, {}))
                number += 1
        except Exception as error:
            self._error = error

    def answer(self, message: pb.EmbedStreamReply) -> StreamAnswer:
        """Return the number of the request, and its reply or error."""
        if message.id in self._late:
            self._late.discard(message.id)
            return message.id, DeadlineExceeded("the deadline had passed before the request was sent; allow more time")
        return _answer(message)

    def check(self) -> None:
        """Raise the exception of the user's requests, if any."""
        if self._error is not None:
            raise self._error

    def _message(self, number: int, request: Request) -> pb.EmbedStreamRequest:
        left = None if request.deadline is None else round((request.deadline - time.monotonic()) * 1e3)
        if left is not None:
            if left <= 0:
                self._late.add(number)
            left = min(max(1, left), _MAX_MS)
        body = request_to_proto(self._model, request, max_bytes=self._max_message_bytes)
        return pb.EmbedStreamRequest(id=number, request=body, timeout_ms=left)


def _answer(message: pb.EmbedStreamReply) -> StreamAnswer:
    if message.WhichOneof("result") == "reply":
        return message.id, reply_from_proto(message.reply)
    error = from_status(message.error.status, message.error.message)
    if isinstance(error, Overloaded):
        error.retry_after = message.error.retry_after_ms / 1e3
    return message.id, error

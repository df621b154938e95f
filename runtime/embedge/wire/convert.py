"""Convert requests and replies to messages and back, for server and client. No logic, no gRPC."""

from __future__ import annotations

import sys
from typing import cast

import numpy as np

from embedge.errors import EmbedgeError, InvalidInput, from_status
from embedge.outputs import DTYPES, DType
from embedge.request import Priority, Reply, Request, Timings
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.messages import whole
from embedge.wire.parts import item_from_proto
from embedge.wire.results import fill_output, result_from_proto
from embedge.wire.tensors import DTYPE_NAMES, DTYPE_NUMBERS
from embedge.wire.texts import name_of, text_from_bytes, whole_number

__all__ = [
    "fill_reply",
    "reply_from_proto",
    "request_from_proto",
    "request_head",
    "request_to_proto",
]

_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: "interactive",
    pb.PRIORITY_INTERACTIVE: "interactive",
    pb.PRIORITY_BULK: "bulk",
}


def request_from_proto(message: pb.EmbedRequest, *, deadline: float | None, most: int = sys.maxsize) -> Request:
    """Return the request that a message holds.

    Items are counted before they are converted: an empty one takes two bytes on the wire and some hundred in memory.

    Args:
        message: The message.
        deadline: The request's deadline, on the `time.monotonic` clock.
        most: Most items accepted.

    Raises:
        InvalidInput: The message holds both `items` and `texts`, or too many items.
    """
    if (count := max(len(message.items), len(message.texts))) > most:
        raise InvalidInput(
            f"{count:,} items are more than ever fit into the queue, {most:,} (max_queue_items); "
            "send them in several calls"
        )
    if message.texts and message.items:
        raise InvalidInput("the request holds both 'items' and 'texts'; send one of them")
    return Request(
        items=[text_from_bytes(text) for text in message.texts] or [item_from_proto(item) for item in message.items],
        tower=message.tower or None,
        outputs=tuple(message.outputs),
        dim=message.dim if message.HasField("dim") else None,
        pool=message.pool if message.HasField("pool") else None,
        # `outputs.check` refuses an unknown dtype, by this name.
        dtype=cast("DType", DTYPE_NAMES.get(message.dtype, f"number {message.dtype}")),
        prompt=message.prompt if message.HasField("prompt") else None,
        truncate=message.truncate,
        deadline=deadline,
        priority=cast("Priority", _PRIORITIES.get(message.priority, f"number {message.priority}")),
    )


def request_to_proto(model: str, request: Request, *, max_bytes: int = sys.maxsize) -> pb.EmbedRequest:
    """Return the message for a request, without its deadline.

    Raises:
        InvalidInput: The message has more than `max_bytes`, or an item can't be sent.
    """
    return whole(request_head(model, request), request.items, max_bytes)


def request_head(model: str, request: Request) -> pb.EmbedRequest:
    """Return the message for a request, without its items. Raises InvalidInput."""
    if request.dtype not in DTYPES:  # a tuple, because it compares any object
        raise InvalidInput(f"dtype {request.dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    return pb.EmbedRequest(
        model=name_of("model", model),
        tower=name_of("tower", request.tower or ""),
        outputs=[name_of("output", name) for name in request.outputs],
        dim=whole_number("dim", request.dim),
        pool=whole_number("pool", request.pool),
        dtype=DTYPE_NUMBERS[request.dtype],
        prompt=None if request.prompt is None else name_of("prompt", request.prompt),
        truncate=bool(request.truncate),
        priority=pb.PRIORITY_BULK if request.priority == "bulk" else pb.PRIORITY_INTERACTIVE,
    )


def fill_reply(message: pb.EmbedReply, reply: Reply) -> None:
    """Write a reply into an empty message."""
    message.model, message.version, message.tower = reply.model, reply.version, reply.tower
    for name, result in reply.outputs.items():
        fill_output(message.outputs.add(name=name), result)
    for index, error in sorted(reply.errors.items()):
        message.errors.add(index=index, status=error.grpc, message=error.message)
    message.tokens.extend(reply.tokens.tolist())
    seconds = reply.timings
    message.timings.prepare_us = round(seconds.prepare * 1e6)
    message.timings.queue_us = round(seconds.queue * 1e6)
    message.timings.compute_us = round(seconds.compute * 1e6)


def reply_from_proto(message: pb.EmbedReply) -> Reply:
    """Return the reply that a message holds. Its arrays are read-only views of the received bytes."""
    spent = message.timings
    return Reply(
        model=message.model,
        version=message.version,
        tower=message.tower,
        outputs={output.name: result_from_proto(output) for output in message.outputs},
        errors={error.index: _item_error(error) for error in message.errors},
        tokens=np.array(message.tokens, dtype=np.int32),
        timings=Timings(spent.prepare_us / 1e6, spent.queue_us / 1e6, spent.compute_us / 1e6),
    )


def _item_error(error: pb.ItemError) -> EmbedgeError:
    failure = from_status(error.status, error.message, index=error.index)
    failure.args = (f"item {error.index}: {error.message}",)  # as it reads in process
    return failure

"""Between protos and plain values, both ways; server and client use the same functions. No logic, no gRPC."""

from __future__ import annotations

import math
import operator
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.errors import EmbedgeError, InvalidInput, from_status
from embedge.outputs import DType, Vectors
from embedge.request import Item, Priority, Reply, Request, Timings
from embedge.v1 import embedge_pb2 as pb

__all__ = [
    "deadline_in",
    "fill_reply",
    "name_of",
    "pack_array",
    "reply_from_proto",
    "request_from_proto",
    "request_to_proto",
    "unpack_array",
]

# How each dtype of a vector lies on the wire: little-endian, whatever the machine is.
_LAYOUT: dict[str, str] = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "ubinary": "|u1"}
_TO_ENUM = {
    "float32": pb.DTYPE_FLOAT32,
    "float16": pb.DTYPE_FLOAT16,
    "int8": pb.DTYPE_INT8,
    "ubinary": pb.DTYPE_UBINARY,
}
_FROM_ENUM = {number: name.removeprefix("DTYPE_").lower() for name, number in pb.DType.items() if number}
_FROM_ENUM[pb.DTYPE_UNSPECIFIED] = "float32"
_PRIORITIES = {
    pb.PRIORITY_UNSPECIFIED: "interactive",
    pb.PRIORITY_INTERACTIVE: "interactive",
    pb.PRIORITY_BULK: "bulk",
}
# Times further off than this are none: gRPC's own clock cannot hold all that a float can.
_YEAR = 365 * 86400.0


def deadline_in(seconds: float | None) -> float | None:
    """Return the `time.monotonic` moment `seconds` from now; None, for ever, for None and for more than a year.

    Raises InvalidInput.
    """
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or math.isnan(seconds):
        raise InvalidInput(f"timeout {seconds!r} is no number of seconds")
    return None if seconds > _YEAR else time.monotonic() + seconds


def name_of(what: str, value: object) -> str:
    """Return the value, which is text that a message can hold. Raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} {value!r} holds lone surrogates and is not valid Unicode") from error
    return value


def request_from_proto(message: pb.EmbedRequest, *, deadline: float | None) -> Request:
    """Return the plain request. Raises InvalidInput, e.g. if it holds both `items` and `texts`."""
    if message.texts and message.items:
        raise InvalidInput("the request holds both 'items' and 'texts'; send one of them")
    return Request(
        items=[_text(text) for text in message.texts] or [_item(item) for item in message.items],
        tower=message.tower or None,
        outputs=tuple(message.outputs),
        dim=message.dim if message.HasField("dim") else None,
        # A dtype that vectors cannot have, or that is not known here, is refused by name where requests are checked.
        dtype=cast("DType", _FROM_ENUM.get(message.dtype, f"number {message.dtype}")),
        prompt=message.prompt if message.HasField("prompt") else None,
        truncate=message.truncate,
        deadline=deadline,
        priority=cast("Priority", _PRIORITIES.get(message.priority, f"number {message.priority}")),
    )


def request_to_proto(model: str, request: Request, *, first: int = 0) -> pb.EmbedRequest:
    """Return the message for a request; its deadline travels with the call. Raises InvalidInput.

    first: place of its first item, where the request is a part of a larger one.
    """
    if request.dtype not in tuple(_TO_ENUM):  # which any object can be looked for in
        raise InvalidInput(f"dtype {request.dtype!r} is unknown; choose one of {', '.join(_TO_ENUM)}")
    message = pb.EmbedRequest(
        model=name_of("model", model),
        tower=name_of("tower", request.tower or ""),
        outputs=[name_of("output", name) for name in request.outputs],
        dim=_dim(request.dim),
        dtype=_TO_ENUM[request.dtype],
        prompt=None if request.prompt is None else name_of("prompt", request.prompt),
        truncate=bool(request.truncate),
        priority=pb.PRIORITY_BULK if request.priority == "bulk" else pb.PRIORITY_INTERACTIVE,
    )
    if all(isinstance(item, str) for item in request.items):
        message.texts.extend(_bytes(item, index) for index, item in enumerate(request.items, first))
    else:
        for index, item in enumerate(request.items, first):
            _fill_item(message.items.add(), item, index)
    return message


def fill_reply(message: pb.EmbedReply, reply: Reply) -> None:
    """Write a reply into an empty message."""
    message.model, message.version, message.tower = reply.model, reply.version, reply.tower
    for name, vectors in reply.outputs.items():
        output = message.outputs.add(name=name, kind=pb.KIND_DENSE, space=vectors.space)
        output.values.dtype = _TO_ENUM[vectors.dtype]
        output.values.shape.extend(vectors.values.shape)
        output.values.data = pack_array(vectors.values, vectors.dtype)
        if vectors.scales is not None:
            output.scales = pack_array(vectors.scales, "float32")
    for index, error in sorted(reply.errors.items()):
        message.errors.add(index=index, status=error.grpc, message=error.message)
    message.tokens.extend(reply.tokens.tolist())
    seconds = reply.timings
    message.timings.prepare_us = round(seconds.prepare * 1e6)
    message.timings.queue_us = round(seconds.queue * 1e6)
    message.timings.compute_us = round(seconds.compute * 1e6)


def reply_from_proto(message: pb.EmbedReply) -> Reply:
    """Return the plain reply. Its arrays are read-only views of the received bytes."""
    spent = message.timings
    return Reply(
        model=message.model,
        version=message.version,
        tower=message.tower,
        outputs={output.name: _vectors(output) for output in message.outputs},
        errors={error.index: _item_error(error) for error in message.errors},
        tokens=np.array(message.tokens, dtype=np.int32),
        timings=Timings(spent.prepare_us / 1e6, spent.queue_us / 1e6, spent.compute_us / 1e6),
    )


def pack_array(values: NDArray[np.generic], dtype: str) -> bytes:
    """Return the array's bytes, row-major and little-endian."""
    return values.astype(_LAYOUT[dtype], copy=False).tobytes()


def unpack_array(data: bytes, dtype: str, shape: Iterable[int]) -> NDArray[Any]:
    """Return a read-only view of packed bytes as an array of `shape`."""
    return np.frombuffer(data, dtype=_LAYOUT[dtype]).reshape(tuple(shape))


def _vectors(output: pb.Output) -> Vectors:
    dtype = _FROM_ENUM[output.values.dtype]
    values = unpack_array(output.values.data, dtype, output.values.shape)
    scales = unpack_array(output.scales, "float32", [-1]) if dtype == "int8" else None
    return Vectors(values, output.space, cast("DType", dtype), scales)


def _item_error(error: pb.ItemError) -> EmbedgeError:
    failure = from_status(error.status, error.message, index=error.index)
    failure.args = (f"item {error.index}: {error.message}",)  # as it reads in process
    return failure


def _text(data: bytes) -> str:
    # Bytes that are not UTF-8 become lone surrogates, which preparing refuses for this item alone.
    return data.decode("utf-8", "surrogateescape")


def _item(item: pb.Item) -> Item:
    return {name: _content(part) for name, part in item.parts.items()}


def _content(part: pb.Part) -> Any:
    kind = part.WhichOneof("content")
    if kind == "text":
        return _text(part.text)
    return getattr(part, kind) if kind else None


def _dim(dim: object) -> int | None:
    """Return the dim as the message can hold it; which sizes there are, the server knows."""
    if dim is None:
        return None
    try:
        size = operator.index(cast("int", dim))
    except TypeError:
        size = None
    if size is None or isinstance(dim, bool):
        raise InvalidInput(f"dim {dim!r} is no whole number")
    if abs(size) >= 1 << 31:
        raise InvalidInput(f"dim {dim} is not possible: no output has so many numbers")
    return size


def _bytes(text: object, index: int) -> bytes:
    if not isinstance(text, str):
        raise InvalidInput(f"item {index}: a text is needed, not {type(text).__name__}", index=index)
    # Surrogates travel as bytes that are not UTF-8, so that the server refuses this item and embeds the others.
    return text.encode("utf-8", "surrogatepass")


def _fill_item(message: pb.Item, item: Item, index: int) -> None:
    parts = item if isinstance(item, Mapping) else {"text": item}
    for name, content in parts.items():
        try:
            part = message.parts[name_of("the name of a part", name)]
        except InvalidInput as error:
            raise InvalidInput(f"item {index}: {error}", index=index) from error
        part.text = _bytes(content, index)

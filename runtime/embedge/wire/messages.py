"""Pack a request into messages: one for a stream, or several that stay below the size limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from embedge.errors import InvalidInput
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.parts import fill_item
from embedge.wire.texts import text_to_bytes

__all__ = ["FRAME", "several", "whole"]

# Enough items, or pieces of sets, to fill any batch, and few enough that the reply stays small: 512 vectors of 4,096
# float32 are 8 MiB.
_ITEMS = 512
_BYTES = 4 << 20
FRAME = 6
"""Most bytes that a nested message adds to its own: a tag and a length."""


def several(head: pb.EmbedRequest, items: Sequence[object], max_bytes: int) -> Iterator[pb.EmbedRequest]:
    """Yield at least one message, each `head` with the next items.

    Packing is lazy: files are read when their message is taken.

    Args:
        head: The message without items.
        items: The items.
        max_bytes: Size of the largest message.

    Raises:
        InvalidInput: An item can't be sent, or is larger than a message.
    """
    room = min(_BYTES, max_bytes - head.ByteSize())
    first = size = count = 0
    packed: list[bytes | pb.Item] = []
    for index, item in enumerate(_packed(items, max_bytes)):
        cost = FRAME + (len(item) if isinstance(item, bytes) else item.ByteSize())
        more = 1 if isinstance(item, bytes) else _members(item)
        if packed and (count + more > _ITEMS or size + cost > room):
            yield _message(head, packed, max_bytes, first)
            first, size, count, packed = index, 0, 0, []
        packed.append(item)
        size += cost
        count += more
    yield _message(head, packed, max_bytes, first)


def whole(head: pb.EmbedRequest, items: Sequence[object], max_bytes: int) -> pb.EmbedRequest:
    """Return `head` with all items, as one message. Raises InvalidInput beyond `max_bytes`."""
    return _message(head, list(_packed(items, max_bytes)), max_bytes, 0)


def _packed(items: Sequence[object], max_bytes: int) -> Iterator[bytes | pb.Item]:
    """Yield each item as its message, or as bytes if all items are strings."""
    if all(isinstance(item, str) for item in items):
        yield from map(text_to_bytes, items)
        return
    for index, item in enumerate(items):
        message = pb.Item()
        try:
            fill_item(message, item, max_bytes=max_bytes)
        except InvalidInput as error:
            raise InvalidInput(f"item {index}: {error.message}", index=index) from error
        yield message


def _members(item: pb.Item) -> int:
    """Return how many items the server embeds for this one: the pieces of its sets, or 1."""
    parts = (item.part, *item.parts.values()) if item.parts else (item.part,)
    return max(1, sum(len(part.set.pieces) for part in parts if part.WhichOneof("content") == "set"))


def _message(head: pb.EmbedRequest, packed: list[bytes | pb.Item], limit: int, first: int) -> pb.EmbedRequest:
    message = pb.EmbedRequest()
    message.CopyFrom(head)
    if packed and isinstance(packed[0], bytes):
        message.texts.extend(cast("list[bytes]", packed))
    else:
        message.items.extend(cast("list[pb.Item]", packed))
    size = message.ByteSize()
    if size > limit:
        what = f"item {first}" if len(packed) == 1 else "the request"
        raise InvalidInput(
            f"{what} makes a message of {size:,} bytes, the limit is {limit:,}; send less at a time, or raise "
            "max_message_bytes here and --max-message-bytes at the server",
            index=first if len(packed) == 1 else None,
        )
    return message

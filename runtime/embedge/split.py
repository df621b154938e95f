"""One large request as several, and their replies as one."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedge.errors import EmbedgeError
from embedge.request import Item, Reply, Request, Timings

__all__ = ["chars", "cuts", "join", "split"]

_ANY = sys.maxsize


def split(request: Request, *, max_items: int, max_chars: int | None = None) -> list[Request]:
    """Return the request as parts of at most `max_items` items and `max_chars` characters; a longer item goes alone."""
    items = request.items
    if isinstance(items, (str, bytes, Mapping)) or not items:
        return [request]  # what is wrong with it is said where it is checked
    return [replace(request, items=items[start:end]) for start, end in cuts(items, max_items, max_chars or _ANY)]


def join(replies: Sequence[Reply]) -> Reply:
    """Return the replies to the parts of one request, in order, as its reply. Timings add up, but for the queue's."""
    first = replies[0]
    if len(replies) == 1:
        return first
    errors: dict[int, EmbedgeError] = {}
    start = 0
    for reply in replies:
        for index, error in reply.errors.items():
            error.index = start + index
            error.args = (f"item {error.index}: {error.message}",)
            errors[error.index] = error
        start += len(reply.tokens)
    return replace(
        first,
        outputs={name: _join_results([reply.outputs[name] for reply in replies]) for name in first.outputs},
        errors=errors,
        tokens=np.concatenate([reply.tokens for reply in replies]),
        timings=_join_timings([reply.timings for reply in replies]),
    )


def cuts(items: Sequence[Item], max_items: int, max_chars: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of parts of at most `max_items` items and `max_chars` characters; a longer item goes alone."""
    start = total = 0
    for index, item in enumerate(items):
        size = 0 if max_chars == _ANY else chars(item)
        if index > start and (index - start == max_items or total + size > max_chars):
            yield start, index
            start, total = index, 0
        total += size
    yield start, len(items)


def chars(item: object) -> int:
    """Return how many characters an item has in all its parts."""
    values = item.values() if isinstance(item, Mapping) else (item,)
    return sum(len(value) for value in values if isinstance(value, str))


def _join_results(parts: Sequence[Any]) -> Any:
    """Return the results of one output, all of the same kind, as one."""
    return parts[0].join(*parts[1:])


def _join_timings(parts: Sequence[Timings]) -> Timings:
    prepare = sum(part.prepare for part in parts)
    return Timings(prepare, max(part.queue for part in parts), sum(part.compute for part in parts))

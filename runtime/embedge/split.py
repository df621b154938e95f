"""Split a large request into several, and join their replies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from embedge.errors import EmbedgeError
from embedge.request import Item, Reply, Request, Timings

__all__ = ["cuts", "join", "split"]


def split(
    request: Request, measure: Callable[[Sequence[Item]], float], *, max_items: int, max_size: float
) -> list[Request]:
    """Split a request.

    Args:
        request: The request.
        measure: Returns the size of a run of items.
        max_items: Most items in a part.
        max_size: Largest size of a part. A larger item goes alone.
    """
    items = request.items
    if isinstance(items, (str, bytes, Mapping)) or len(items) <= 1:
        return [request]  # `_admit` checks it
    requests, start = [], 0
    while start < len(items):
        chunk = items[start : start + max_items]
        while len(chunk) > 1 and measure(chunk) > max_size:
            chunk = chunk[: len(chunk) // 2]
        requests.append(replace(request, items=chunk))
        start += len(chunk)
    return requests


def join(replies: Sequence[Reply]) -> Reply:
    """Join the replies to the parts of a request, in order. Times add up, except for the longest wait in the queue."""
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


def cuts(
    items: Sequence[Item], weigh: Callable[[Item], int], *, max_items: int, max_weight: int
) -> Iterator[tuple[int, int, int]]:
    """Yield `(start, end, weight)` of chunks.

    Args:
        items: The items.
        weigh: Returns the weight of an item.
        max_items: Most items in a chunk.
        max_weight: Largest weight of a chunk. A heavier item goes alone.
    """
    start = total = 0
    for index, item in enumerate(items):
        weight = weigh(item)
        if index > start and (index - start == max_items or total + weight > max_weight):
            yield start, index, total
            start, total = index, 0
        total += weight
    yield start, len(items), total


def _join_results(results: Sequence[Any]) -> Any:
    """Join the results of one output."""
    return results[0].join(*results[1:])


def _join_timings(timings: Sequence[Timings]) -> Timings:
    prepare = sum(each.prepare for each in timings)
    return Timings(prepare, max(each.queue for each in timings), sum(each.compute for each in timings))

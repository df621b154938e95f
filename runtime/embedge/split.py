"""One large request as several, and their replies as one."""

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
    """Return requests of at most `max_items` items, and of several only up to `max_size` by `measure`."""
    items = request.items
    if isinstance(items, (str, bytes, Mapping)) or len(items) <= 1:
        return [request]  # what is wrong with it is said where it is checked
    requests, start = [], 0
    while start < len(items):
        chunk = items[start : start + max_items]
        while len(chunk) > 1 and measure(chunk) > max_size:
            chunk = chunk[: len(chunk) // 2]
        requests.append(replace(request, items=chunk))
        start += len(chunk)
    return requests


def join(replies: Sequence[Reply]) -> Reply:
    """Return the replies to what a request was split into, in order, as one. Timings add up, but for the queue's."""
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
    """Yield (start, end, weight) of chunks of at most `max_items` items and `max_weight`; a heavier item goes alone."""
    start = total = 0
    for index, item in enumerate(items):
        weight = weigh(item)
        if index > start and (index - start == max_items or total + weight > max_weight):
            yield start, index, total
            start, total = index, 0
        total += weight
    yield start, len(items), total


def _join_results(results: Sequence[Any]) -> Any:
    """Return the results of one output, all of the same kind, as one."""
    return results[0].join(*results[1:])


def _join_timings(timings: Sequence[Timings]) -> Timings:
    prepare = sum(each.prepare for each in timings)
    return Timings(prepare, max(each.queue for each in timings), sum(each.compute for each in timings))

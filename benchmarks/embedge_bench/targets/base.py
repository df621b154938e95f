"""The interface of a target, on one screen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedge_bench.results import CostCells, TargetInfo

__all__ = ["Counters", "Target", "TargetReply", "follow"]


@dataclass(frozen=True, slots=True)
class TargetReply:
    """The vectors of one request, (n, dim), and its token count with special tokens, if known."""

    vectors: NDArray[np.generic]
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Counters:
    """Counts since the target began. queue: items waiting or running now. None: the target does not tell.

    batches, rows: batches that ran, and rows in them. computed: padded tokens, rows x longest row.
    """

    queue: float | None = None
    batches: float | None = None
    rows: float | None = None
    computed: float | None = None

    @classmethod
    def of(cls, stats: Mapping[str, float]) -> Counters:
        """Convert `Embedder.stats`, in process or over the wire."""
        return cls(stats["waiting_items"], stats["batches"], stats["items"], stats["padded_tokens"])


class Target(Protocol):
    """Something that embeds texts. It lives in the process that loads it; `embed` is called from many threads.

    batch, sort, callers: the load that the target must have, whatever was asked for; None: any.
    threads: whether the callers of a closed loop are threads that call `embed`, and not one that calls `submit`.
    processes: ids of the processes that do the work, where they are not this one.
    """

    batch: int | None = None
    sort: bool = False
    callers: int | None = None
    threads: bool = True
    processes: tuple[int, ...] = ()

    @abstractmethod
    def info(self) -> TargetInfo:
        """Describe the target."""

    @abstractmethod
    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors, waiting at most `timeout` seconds. Raises EmbedgeError; Overloaded if refused."""

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply] | None:
        """Return a future of the vectors, or None if the target only supports blocking calls.

        Open loops need it: thousands of requests may be in flight, and as many threads would be a load themselves.
        Raises immediate errors as `embed` does.
        """
        return None

    def counters(self) -> Counters:
        """Return its counters and its queue."""
        return Counters()

    def costs(self) -> CostCells | None:
        """Return its cost table."""
        return None

    def close(self) -> None:
        """Free its resources."""


def follow(source: Any, read: Callable[[], TargetReply]) -> Future[TargetReply]:
    """Return a future with the result of `read`, once the future `source` (gRPC's or Python's) is done."""
    future: Future[TargetReply] = Future()

    def done(_: object) -> None:
        try:
            answer = read()
        except Exception as error:  # whatever it is, it belongs to whoever waits
            future.set_exception(error)
        else:
            future.set_result(answer)

    source.add_done_callback(done)
    return future

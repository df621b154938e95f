"""What every target can do, on one screen."""

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
    """The vectors of one request, (n, dim), and its tokens with specials, if the target tells."""

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
        """Return what `Embedder.stats` says, in process or over the wire."""
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
        """Return what it is."""

    @abstractmethod
    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors, waiting at most `timeout` seconds. Raises EmbedgeError; Overloaded if refused."""

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply] | None:
        """Return a future of the vectors without waiting; None where the target can only be called and waited for.

        An open loop needs it: thousands of requests may be on their way, and as many threads would be a load
        themselves. Raises as `embed` does, where that is known at once.
        """
        return None

    def counters(self) -> Counters:
        """Return what it has done and what waits."""
        return Counters()

    def costs(self) -> CostCells | None:
        """Return its cost table."""
        return None

    def close(self) -> None:
        """Free what it holds."""


def follow(source: Any, read: Callable[[], TargetReply]) -> Future[TargetReply]:
    """Return a future that has what `read` returns or raises, once the future `source` (gRPC's will do) is done."""
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

"""Messages between the benchmark and its load processes: one JSON object per line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from embedge_bench.results import CostCells, Load, Round, TargetInfo

__all__ = [
    "Done",
    "Give",
    "Open",
    "RunRound",
    "TargetFailed",
    "TargetOpened",
    "WorkerReply",
    "WorkerTask",
    "WorkloadReceived",
]


class Open(msgspec.Struct, frozen=True, tag=True):
    """Open the target at this address. Answered with Opened."""

    name: str
    spec: str


class Give(msgspec.Struct, frozen=True, tag=True):
    """Remember a workload and the reference vectors of some of its texts, by place. Answered with Taken."""

    workload: str
    texts: tuple[str, ...]
    sizes: tuple[int, ...]
    unit: Literal["tokens", "words"]
    reference: str | None = None
    vectors: Mapping[int, tuple[float, ...]] = {}


class RunRound(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Run a round and measure. `arrivals`: of an open loop with recorded arrivals. Answered with Done."""

    workload: str
    load: Load
    number: int
    seconds: float
    count: int | None = None
    warm_up: float = 0.0
    seed: int = 0
    arrivals: tuple[float, ...] = ()


WorkerTask = Open | Give | RunRound


class TargetOpened(msgspec.Struct, frozen=True, tag=True):
    """The target is open and answers; that took so many seconds."""

    info: TargetInfo


class WorkloadReceived(msgspec.Struct, frozen=True, tag=True):
    """The workload is remembered."""


class Done(msgspec.Struct, frozen=True, tag=True):
    """The round, and the target's cost table after it."""

    round: Round
    costs: CostCells | None = None


class TargetFailed(msgspec.Struct, frozen=True, tag=True):
    """The task failed; `status` is the gRPC status name of the error."""

    status: str
    message: str


WorkerReply = TargetOpened | WorkloadReceived | Done | TargetFailed

"""What the supervisor of a build and its child say to each other: records, one JSON object a line.

The supervisor runs `python -m embedge_export.tensorrt build --messages FD`. It writes one `BuildRequest` to the child's
stdin, which then stays open: its end means that the supervisor is gone, and is to be taken like SIGTERM. The child
writes messages to the file descriptor FD, so that what libraries print on stdout and stderr is no part of it. It says
`Built`, `Refused` or `Failed` once for each graph, in the order of the request, and goes on with the next where it can.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.config import RuntimeConfig

__all__ = ["BuildJob", "BuildRequest", "Built", "Failed", "Log", "Message", "ParseFault", "Progress", "Refused"]

FailureKind = Literal["parse", "precision", "memory", "disk", "cancelled", "unavailable", "other"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=str.lower):
    """A record whose JSON says which it is: {"type": "built", …}."""


class BuildJob(_Message, frozen=True, kw_only=True):
    """One plan to be built. key: says from what, for which sizes and how.

    files: where to write it: the first place that takes it, for the disk of the first may be full. They do not exist.
    """

    key: PlanKey
    files: tuple[str, ...]


class BuildRequest(_Message, frozen=True, kw_only=True):
    """What is to be built. bundle: its directory. jobs: by the graph's name in the manifest, in order.

    timing: directory of TensorRT's timing caches (see `embedge.backends.tensorrt.plans.timing`); empty: use none.
    """

    bundle: str
    jobs: dict[str, BuildJob]
    config: RuntimeConfig
    timing: str = ""


class Progress(_Message, frozen=True, kw_only=True):
    """How far a phase is. parent: the phase that it is part of, if any. A phase with done == total has ended.

    total: 0 where nobody knows.
    """

    graph: str
    phase: str
    parent: str = ""
    done: int = 0
    total: int = 0


class Log(_Message, frozen=True, kw_only=True):
    """A line of TensorRT's log. Only what a user should see is sent."""

    level: Literal["warning", "error"]
    text: str
    graph: str = ""


class Built(_Message, frozen=True, kw_only=True):
    """A plan is written, flushed and has passed the gate. file: the place of the job's that took it.

    sha256, nbytes: of the plan as it was in memory. seconds: the build took. figures: of the gate.
    """

    graph: str
    file: str
    sha256: str
    nbytes: int
    seconds: float
    figures: dict[str, float] = {}


class Refused(_Message, frozen=True, kw_only=True):
    """The gate refused a plan: its numbers are wrong here. reason: which figure missed which limit, and where."""

    graph: str
    reason: str
    seconds: float
    figures: dict[str, float] = {}


class ParseFault(_Message, frozen=True, kw_only=True):
    """One thing that TensorRT's parser does not take. node, op: where in the graph, as far as it says."""

    description: str
    node: str = ""
    op: str = ""


class Failed(_Message, frozen=True, kw_only=True):
    """A plan could not be built. parse: the graph is not for TensorRT; faults has all that its parser said.

    precision: an input, an output or the products have another type than asked for. memory: out of GPU or host memory.
    disk: no place takes the plan. unavailable: no TensorRT, no GPU, or they cannot be used.
    """

    graph: str
    kind: FailureKind
    text: str
    faults: tuple[ParseFault, ...] = ()


Message = Progress | Log | Built | Refused | Failed

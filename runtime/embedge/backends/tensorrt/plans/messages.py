"""The protocol between a build's supervisor and its child: one JSON object per line.

The supervisor runs `python -m embedge_export.tensorrt build --messages FD`. It writes one `BuildRequest` to the child's
stdin and keeps that open: if it closes, the supervisor is gone, and the child stops as on SIGTERM. The child writes
messages to the file descriptor FD, apart from whatever libraries print on stdout and stderr. It sends `Built`,
`Refused` or `Failed` once per graph, in the order of the request, and goes on with the next graph where it can.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from embedge.backends.tensorrt.plans.key import PlanKey
from embedge.config import RuntimeConfig

__all__ = ["BuildJob", "BuildRequest", "Built", "Failed", "Log", "Message", "ParseFault", "Progress", "Refused"]

FailureKind = Literal["parse", "precision", "memory", "disk", "cancelled", "unavailable", "other"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag=str.lower):
    """A record tagged with its type in JSON: {"type": "built", …}."""


class BuildJob(_Message, frozen=True, kw_only=True):
    """One plan to build.

    Attributes:
        key: From what, for which sizes and how to build it.
        files: Where to write it, in order of preference: the first disk may be full. None of them exists.
    """

    key: PlanKey
    files: tuple[str, ...]


class BuildRequest(_Message, frozen=True, kw_only=True):
    """All plans to build.

    Attributes:
        bundle: The bundle's directory.
        jobs: Jobs by graph, in order.
        config: The runtime's settings.
        timing: Directory of TensorRT's timing caches, see `TimingCache`; empty for none.
    """

    bundle: str
    jobs: dict[str, BuildJob]
    config: RuntimeConfig
    timing: str = ""


class Progress(_Message, frozen=True, kw_only=True):
    """How far a phase is.

    Attributes:
        graph: The graph.
        phase: The phase's name.
        parent: The phase it is part of, if any.
        done: Steps completed. The phase has ended once they equal `total`.
        total: Steps in all; 0 if unknown.
    """

    graph: str
    phase: str
    parent: str = ""
    done: int = 0
    total: int = 0


class Log(_Message, frozen=True, kw_only=True):
    """A line of TensorRT's log: warnings and errors only."""

    level: Literal["warning", "error"]
    text: str
    graph: str = ""


class Built(_Message, frozen=True, kw_only=True):
    """A plan passed the gate and is written and flushed.

    Attributes:
        graph: The graph.
        file: The one of the job's files that was written.
        sha256: Of the plan in memory, hex.
        nbytes: Size of the plan in bytes.
        seconds: Build time.
        figures: The gate's metrics.
    """

    graph: str
    file: str
    sha256: str
    nbytes: int
    seconds: float
    figures: dict[str, float] = {}


class Refused(_Message, frozen=True, kw_only=True):
    """The gate refused a plan: its outputs are wrong on this device.

    Attributes:
        graph: The graph.
        reason: The metric that missed its threshold, and where.
        seconds: Build time.
        figures: The gate's metrics.
    """

    graph: str
    reason: str
    seconds: float
    figures: dict[str, float] = {}


class ParseFault(_Message, frozen=True, kw_only=True):
    """One error of TensorRT's parser.

    Attributes:
        description: TensorRT's message.
        node: The node in the graph, if known.
        op: The node's operator, if known.
    """

    description: str
    node: str = ""
    op: str = ""


class Failed(_Message, frozen=True, kw_only=True):
    """A plan could not be built.

    Attributes:
        graph: The graph.
        kind: "parse": TensorRT can't parse the graph. "precision": an input, an output or the matrix products have
            another type than requested. "memory": out of GPU or host memory. "disk": no file could be written.
            "cancelled": it was stopped. "unavailable": TensorRT or the GPU can't be used. "other": anything else.
        text: The error message.
        faults: The parser's errors.
    """

    graph: str
    kind: FailureKind
    text: str
    faults: tuple[ParseFault, ...] = ()


Message = Progress | Log | Built | Refused | Failed

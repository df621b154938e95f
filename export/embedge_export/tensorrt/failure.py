"""Errors of a build, with advice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.plans.messages import Failed, FailureKind, ParseFault

__all__ = ["PlanError", "cancelled", "not_built", "not_parsed"]

_SHOWN = 5


class PlanError(Exception):
    """A graph has no plan. The message names the graph and what to do."""

    def __init__(self, kind: FailureKind, text: str, faults: Iterable[ParseFault] = ()) -> None:
        super().__init__(text)
        self.kind: FailureKind = kind
        self.faults = tuple(faults)

    def message(self, graph: str) -> Failed:
        """Return the message for the supervisor."""
        text = str(self).removeprefix(f"graph {graph!r}: ")  # the supervisor adds that again
        return Failed(graph=graph, kind=self.kind, text=text, faults=self.faults)


def cancelled(graph: str) -> PlanError:
    """Return the error for a cancelled build."""
    return PlanError("cancelled", f"the build of graph {graph!r} was cancelled")


def not_parsed(graph: str, version: str, parser: Any) -> PlanError:
    """Return the error for a graph that the parser refused, with the parser's messages.

    Args:
        graph: The graph's name.
        version: TensorRT's version.
        parser: TensorRT's `OnnxParser`.
    """
    faults = [_fault(parser.get_error(index)) for index in range(parser.num_errors)]
    errors = [f"{each.node} ({each.op}): {each.description}" for each in faults[:_SHOWN]] or [
        "TensorRT gives no reason"
    ]
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    text = f"graph {graph!r}: TensorRT {version} cannot read it: {'; '.join(errors)}{more}"
    return PlanError("parse", text, faults)


def _fault(error: Any) -> ParseFault:
    name = f"node {error.node()}" + (f" {error.node_name()!r}" if error.node_name() else "")
    return ParseFault(description=f"{error.desc().strip()} [{error.code().name}]", node=name, op=error.node_operator())


def not_built(graph: str, version: str, messages: Iterable[str]) -> PlanError:
    """Return the error for a failed build.

    Args:
        graph: The graph's name.
        version: TensorRT's version.
        messages: Errors from the logger and the error recorder.
    """
    lines = [line.strip() for line in messages]
    reasons = "; ".join(lines[-_SHOWN:]) or "TensorRT gives no reason"
    if library.out_of_memory(lines):
        return PlanError(
            "memory", f"graph {graph!r}: TensorRT {version} ran out of memory while it built a plan: {reasons}"
        )
    return PlanError(
        "other", f"graph {graph!r}: TensorRT {version} cannot build a plan: {reasons}; use another backend"
    )

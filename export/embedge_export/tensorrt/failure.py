"""What goes wrong when a plan is built, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.plans.messages import Failed, FailureKind, ParseFault

__all__ = ["PlanError", "cancelled", "not_built", "not_parsed"]

_SHOWN = 5


class PlanError(Exception):
    """There is no plan for a graph. The message names the graph, and what else can be done."""

    def __init__(self, kind: FailureKind, text: str, faults: Iterable[ParseFault] = ()) -> None:
        super().__init__(text)
        self.kind: FailureKind = kind
        self.faults = tuple(faults)

    def message(self, graph: str) -> Failed:
        """Return what the supervisor is told."""
        text = str(self).removeprefix(f"graph {graph!r}: ")  # who hears it says that first
        return Failed(graph=graph, kind=self.kind, text=text, faults=self.faults)


def cancelled(graph: str) -> PlanError:
    """Return the error for a build that was asked to stop, and did."""
    return PlanError("cancelled", f"the build of graph {graph!r} was cancelled")


def not_parsed(graph: str, version: str, parser: Any) -> PlanError:
    """Return the error for a graph that the parser refused, with all that it said."""
    faults = [_fault(parser.get_error(index)) for index in range(parser.num_errors)]
    told = [f"{each.node} ({each.op}): {each.description}" for each in faults[:_SHOWN]] or ["it does not say why"]
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    text = f"graph {graph!r}: TensorRT {version} cannot read it: {'; '.join(told)}{more}"
    return PlanError("parse", text, faults)


def _fault(error: Any) -> ParseFault:
    name = f"node {error.node()}" + (f" {error.node_name()!r}" if error.node_name() else "")
    return ParseFault(description=f"{error.desc().strip()} [{error.code().name}]", node=name, op=error.node_operator())


def not_built(graph: str, version: str, said: Iterable[str]) -> PlanError:
    """Return the error for a build that came to nothing. said: what the logger and the error recorder heard."""
    lines = [line.strip() for line in said]
    told = "; ".join(lines[-_SHOWN:]) or "it does not say why"
    if library.out_of_memory(lines):
        return PlanError(
            "memory", f"graph {graph!r}: TensorRT {version} ran out of memory while it built a plan: {told}"
        )
    return PlanError("other", f"graph {graph!r}: TensorRT {version} cannot build a plan: {told}; use another backend")

"""Messages for failed builds: the graph, how the build ended, and what to do."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from embedge.backends.tensorrt.plans.messages import Failed

__all__ = ["describe_death", "describe_failure"]

_SHELL = 128  # a shell or container adds this to the number of the signal that ended its child
_SHOWN = 10  # faults of the parser
_MEMORY = (
    "set small_memory, or a lower scratch_bytes, max_batch_size or max_batch_tokens, add swap, "
    "or stop what else uses memory; on a Jetson, GPU and CPU share it"
)
_ADVICE = {
    "parse": "it runs on another backend; 'embedge build --force' tries again after an update",
    "precision": "it runs on another backend; 'embedge build --force' tries again after an update",
    "memory": _MEMORY,
    "disk": "make room there, or name another directory in EMBEDGE_CACHE",
}


def describe_failure(failed: Failed) -> str:
    """Return a child's failure as one sentence."""
    faults = [
        f"{fault.node or '(no name)'} ({fault.op or 'unknown op'}): {fault.description}"
        for fault in failed.faults[:_SHOWN]
        if fault.description not in failed.text
    ]
    if faults and (more := len(failed.faults) - _SHOWN) > 0:
        faults.append(f"and {more} more")
    advice = _ADVICE.get(failed.kind, "")
    return "; ".join([f"graph {failed.graph!r}: {failed.text}", *faults, *([advice] if advice else [])])


def describe_death(graph: str, code: int, output: Sequence[str]) -> str:
    """Return how a child died before it reported all graphs.

    Args:
        graph: The graph it was at.
        code: Its exit code; the negated signal number if a signal ended it.
        output: The last lines it printed.
    """
    number = -code if code < 0 else code - _SHELL
    names = {each.value: each.name for each in signal.Signals}
    if number == signal.SIGKILL:
        how, advice = "was killed, as the system does when memory runs out", _MEMORY
    elif number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE):
        how = f"crashed with {names[number]}"
        advice = "that is a fault of TensorRT or the driver, or too little memory: update, or set small_memory"
    elif number in names:
        how, advice = f"was ended by {names[number]}", "start it again"
    elif code:
        how, advice = f"ended with exit code {code}", "see its output"
    else:
        how, advice = "ended without a plan", "see its output"
    printed = f"; its last output: {' | '.join(output)}" if output else ""
    return f"graph {graph!r}: the process building its plan {how}; {advice}{printed}"

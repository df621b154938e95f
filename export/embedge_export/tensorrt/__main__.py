"""The process that builds plans: `python -m embedge_export.tensorrt build`; see `plans.messages` for its protocol."""

from __future__ import annotations

import argparse
import sys
import threading

from embedge.backends.tensorrt.plans.child import Parent
from embedge.errors import InvalidInput
from embedge_export.tensorrt.work import BuildWork

__all__ = ["main"]

_LOOK = 0.1  # seconds


def main(arguments: list[str]) -> int:
    """Build what the supervisor requests, and return the exit code. Errors of a graph are messages, not exit codes.

    The build runs in its own thread: this one has to be free to handle signals, which TensorRT's code would delay.
    """
    parser = argparse.ArgumentParser(prog="python -m embedge_export.tensorrt", description=__doc__)
    parser.add_argument("command", choices=["build"])
    parser.add_argument("--messages", type=int, required=True, metavar="FD", help="where to write messages")
    parent = Parent(parser.parse_args(arguments).messages, sys.stdin.buffer)
    try:
        request = parent.request()
    except InvalidInput as error:
        sys.stderr.write(f"{error.message}\n")
        return 2
    work = BuildWork(request, parent)
    builder = threading.Thread(target=work.run, name="embedge-build")  # owned by this call, which joins it
    builder.start()
    while builder.is_alive():
        # The kernel may deliver a signal to any thread. Python runs its handler in this one, once `join` returns.
        builder.join(_LOOK)
    return 0 if work.done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

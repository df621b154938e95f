"""The process that builds plans: `python -m embedge_export.tensorrt build`. `plans.messages` has its protocol."""

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
    """Do what the supervisor asks for, and return the exit code. What goes wrong with a graph is a message, not a code.

    The build has a thread of its own: this one has to be free to take signals, which TensorRT's own code does not.
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
    builder = threading.Thread(target=work.run, name="embedge-build")  # owned by this call, which waits for it
    builder.start()
    while builder.is_alive():
        # The kernel may give a signal to any thread, which does not end a wait here: Python's handler runs at its end.
        builder.join(_LOOK)
    return 0 if work.done else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The load process: it opens one target and runs rounds requested on its standard input.

It is separate from the benchmark, so drawing and counting take no time from the load, and from any server, so neither
waits for the other's interpreter. It ends with its input.
"""

from __future__ import annotations

import os
import sys
import time
from typing import BinaryIO

import msgspec

from embedge.errors import BackendError, EmbedgeError
from embedge_bench import energy
from embedge_bench.measure import Material, measure
from embedge_bench.messages import (
    Done,
    Give,
    Open,
    RunRound,
    TargetFailed,
    TargetOpened,
    WorkerReply,
    WorkerTask,
    WorkloadReceived,
)
from embedge_bench.targets import Target, open_target, parse

__all__ = ["main"]


class TargetWorker:
    """One target and the workloads it was given."""

    def __init__(self) -> None:
        self._target: Target | None = None
        self._materials: dict[str, Material] = {}
        self._energy = energy.find()

    def do(self, task: WorkerTask) -> WorkerReply:
        """Do the task. Raises EmbedgeError."""
        if isinstance(task, Open):
            return self._open(task)
        if isinstance(task, Give):
            self._materials[task.workload] = Material.of(task)
            return WorkloadReceived()
        return self._run(task)

    def close(self) -> None:
        """Close the target."""
        if self._target is not None:
            self._target.close()

    def _open(self, task: Open) -> TargetOpened:
        began = time.perf_counter()
        self._target = open_target(parse(task.spec))
        self._target.embed(["a first text"])
        seconds = time.perf_counter() - began
        return TargetOpened(msgspec.structs.replace(self._target.info(), name=task.name, start_seconds=seconds))

    def _run(self, task: RunRound) -> Done:
        if self._target is None:
            raise BackendError("no target is open")
        round_ = measure(self._target, self._materials[task.workload], task, counter=self._energy)
        return Done(round_, self._target.costs())


def _answer(worker: TargetWorker, line: bytes) -> WorkerReply:
    try:
        return worker.do(msgspec.json.decode(line, type=WorkerTask))
    except EmbedgeError as error:
        return TargetFailed(error.grpc, error.message)
    except OSError as error:
        return TargetFailed("NOT_FOUND", f"{error.filename or 'the system'}: {error.strerror}")


def _own_output() -> BinaryIO:
    """Keep standard output for replies; whatever libraries print goes to standard error."""
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return output


def main() -> None:
    """Serve tasks until the input ends."""
    output = _own_output()
    worker = TargetWorker()
    try:
        for line in sys.stdin.buffer:
            output.write(msgspec.json.encode(_answer(worker, line)) + b"\n")
    finally:
        worker.close()


if __name__ == "__main__":
    main()

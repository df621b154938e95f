"""The benchmark's side of the worker processes: one per target, all open at once, loaded one at a time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

import msgspec

from embedge.errors import BackendError, EmbedgeError, from_status
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
from embedge_bench.processes import stop_descendants
from embedge_bench.results import CostCells, TargetInfo
from embedge_bench.results import Round as RoundRecord
from embedge_bench.targets import Spec

__all__ = ["WorkerPool", "WorkerProcess"]

_END_SECONDS = 20.0

R = TypeVar("R", TargetOpened, WorkloadReceived, Done)


class WorkerProcess:
    """One worker process and the target it opened. Used by one thread."""

    def __init__(self, spec: Spec) -> None:
        """Start the process and open the target. Raises EmbedgeError."""
        self.spec = spec
        self.costs: CostCells | None = None
        # In a new session: Ctrl-C is for the benchmark, and it stops its workers itself.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedge_bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self.info: TargetInfo = self._ask(Open(spec.name, spec.text), TargetOpened).info
        except BaseException:
            self.abort()
            raise

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def give(self, task: Give) -> None:
        """Hand a workload over. Raises EmbedgeError."""
        self._ask(task, WorkloadReceived)

    def run(self, task: RunRound) -> RoundRecord:
        """Run a round. Raises the target's error if nothing at all succeeds."""
        done = self._ask(task, Done)
        self.costs = done.costs or self.costs
        return msgspec.structs.replace(done.round, target=self.spec.name)

    def abort(self) -> None:
        """Stop the process and whatever it started, in the middle of a round too."""
        stop_descendants(self.pid)
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process: it closes its target when its input ends."""
        if self._process.stdin and self._process.stdout:
            with suppress(BrokenPipeError):  # a task unread by a dead worker can't be flushed
                self._process.stdin.close()
            self._process.stdout.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ask(self, task: WorkerTask, kind: type[R]) -> R:
        if not self._process.stdin or not self._process.stdout:
            raise BackendError(f"{self.spec.name}: the worker has no pipes")
        try:
            self._process.stdin.write(msgspec.json.encode(task) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = b""
        if not line:
            raise BackendError(f"{self.spec.name}: the process that carried the load died; its last words are above")
        reply = msgspec.json.decode(line, type=WorkerReply)
        if isinstance(reply, TargetFailed):
            raise _error(reply, self.spec.name)
        if not isinstance(reply, kind):
            raise BackendError(f"{self.spec.name}: an answer of the wrong kind")
        return reply


def _error(fault: TargetFailed, name: str) -> EmbedgeError:
    about = "" if name in fault.message else f"{name}: "
    return from_status(fault.status, f"{about}{fault.message}")


class WorkerPool:
    """The workers of all targets, in a `with` block."""

    def __init__(self, specs: list[Spec], *, opening: Callable[[str], None]) -> None:
        """`opening` is told each target's name before it is opened."""
        self._specs = specs
        self._opening = opening
        self.workers: dict[str, WorkerProcess] = {}

    def __enter__(self) -> WorkerPool:
        try:
            for spec in self._specs:
                self._opening(spec.name)
                self.workers[spec.name] = WorkerProcess(spec)
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for worker in self.workers.values():
            if error is None:
                worker.close()
            else:
                worker.abort()

"""The lane: one execution slot. It owns its thread, and its sessions are opened, used and closed in that thread only.

A lane knows no scheduler: it is given `take` to get batches from and `deliver` to hand outcomes to. When a batch
fails it tests itself. If the test passes, the batch was to blame: its rows run one by one and only the bad ones
fail. If not, the lane is dead: the batch fails as a whole and the lane opens its sessions anew.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embedge.backends import Arrays
from embedge.batch import Batch
from embedge.program import Computed, Program
from embedge.slots import step_back

__all__ = ["Group", "Lane", "Outcome"]

log = logging.getLogger("embedge.lane")

# Failures in a row, with no good batch between them, after which a lane is given up.
_MAX_FAILURES = 3
_BACKOFF_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one tower that were computed together. Those of one batch may differ in all axes but the first.

    rows: their places in the batch. arrays: output tensors by name, each (len(rows), …). good: (len(rows),) bool,
    whether a row is finite, and what else its outputs ask for.
    """

    rows: Sequence[int]
    arrays: Arrays
    good: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a batch: what was computed, and what went wrong, by row.

    error: the lane broke, and nothing was computed. seconds: None where the figure says nothing about the cost of such
    a batch.
    """

    groups: Sequence[Group] = ()
    faults: Mapping[int, Exception] = field(default_factory=dict)
    error: Exception | None = None
    seconds: float | None = None


class Lane:
    """A thread that takes batches, runs them and delivers what came of them.

    open_program, close_program, compute: open sessions, close them, run a batch through them. probes: a small batch
    per tower for the self-test. warm_up: is given a way to run batches, once, before the lane is alive. take, deliver:
    where batches come from and outcomes go. changed: hears of every change of `alive`. All are called in the lane's
    thread.
    """

    def __init__(
        self,
        name: str,
        *,
        open_program: Callable[[], Program],
        close_program: Callable[[Program], None],
        compute: Callable[[Program, Batch], Computed],
        probes: list[Batch],
        warm_up: Callable[[Callable[[Batch], Computed]], None],
        take: Callable[[], Batch | None],
        deliver: Callable[[Batch, Outcome], None],
        changed: Callable[[Lane], None],
    ) -> None:
        self.name = name
        self.alive = self.given_up = False
        self.error: Exception | None = None
        self._open_program = open_program
        self._close_program = close_program
        self._compute = compute
        self._probes = probes
        self._warm_up: Callable[[Callable[[Batch], Computed]], None] | None = warm_up
        self._take = take
        self._deliver = deliver
        self._changed = changed
        self._stop = threading.Event()  # set by the embedder; cuts a back-off short
        self._thread = threading.Thread(target=self._main, name=f"embedge-{name}", daemon=True)

    def start(self) -> None:
        """Open the sessions and begin to take batches; `changed` hears when the lane is alive or given up."""
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the thread to end, once `take` answers None; False if it hangs after `timeout` seconds."""
        self._stop.set()
        if self._thread is not threading.current_thread():  # which cannot wait for itself
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _main(self) -> None:
        step_back()
        failures = 0
        while failures < _MAX_FAILURES and not self._stop.is_set():
            if failures:
                self._stop.wait(_BACKOFF_SECONDS * failures)
            program = None
            try:
                program = self._open_program()
                self._self_test(program)
                self._warm(program)
                self._set(alive=True, error=None)
                while (batch := self._take()) is not None:
                    self._run(program, batch)
                    failures = 0
                return
            except Exception as error:  # any failure of a backend ends up here: it is told, counted, and retried
                failures += 1
                log.exception("lane %s failed (%d of %d)", self.name, failures, _MAX_FAILURES)
                self._set(alive=False, error=error)
            finally:
                if program is not None:
                    self._close_program(program)
        if not self._stop.is_set():
            log.error("lane %s is given up after %d failures in a row", self.name, failures)
            self.given_up = True
            self._changed(self)

    def _run(self, program: Program, batch: Batch) -> None:
        """Run a batch and deliver it, whatever happens. Raises if the lane itself is broken."""
        start = time.perf_counter()
        try:
            groups = self._groups(program, batch)
            if not any(group.good.any() for group in groups):
                raise ArithmeticError("no row of the batch has a finite vector")
        except Exception as error:
            try:
                self._self_test(program)
            except Exception as broken:
                self._deliver(batch, Outcome(error=error))
                raise broken from error
            self._deliver(batch, self._one_by_one(program, batch))
        else:
            self._deliver(batch, Outcome(groups, seconds=time.perf_counter() - start))

    def _groups(self, program: Program, batch: Batch) -> list[Group]:
        """Run a batch; return a group for each tower."""
        computed = self._compute(program, batch)
        return [
            Group(rows, arrays, program.good(tower, len(rows), arrays)) for tower, (rows, arrays) in computed.items()
        ]

    def _one_by_one(self, program: Program, batch: Batch) -> Outcome:
        """Run each row alone, so that a row which no batch survives fails by itself."""
        groups: list[Group] = []
        faults: dict[int, Exception] = {}
        for row in range(len(batch.rows)):
            try:
                lone = Batch([batch.towers[row]], [batch.rows[row]], [batch.lengths[row]])
                groups.extend(replace(group, rows=[row]) for group in self._groups(program, lone))
            except Exception as error:
                faults[row] = error
        return Outcome(groups, faults)

    def _self_test(self, program: Program) -> None:
        for probe in self._probes:
            for tower, (rows, arrays) in self._compute(program, probe).items():
                program.check(tower, len(rows), arrays)

    def _warm(self, program: Program) -> None:
        if self._warm_up is not None:
            self._warm_up(lambda batch: self._compute(program, batch))
            self._warm_up = None  # a rebuilt lane costs what it cost before

    def _set(self, *, alive: bool, error: Exception | None) -> None:
        self.alive, self.error = alive, error
        self._changed(self)

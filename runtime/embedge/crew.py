"""The crew: a model's lanes, how many there are, what they measured, and whether any of them is alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from embedge import backends
from embedge.backends import Model
from embedge.batch import Batch, trunks
from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.cost import CostTable
from embedge.errors import BackendError, BundleError, EmbedgeError
from embedge.lane import Lane, Outcome
from embedge.measured import Measured
from embedge.probes import Probes
from embedge.program import Computed, Program
from embedge.slots import Slots, choose, cores

__all__ = ["Crew"]

log = logging.getLogger("embedge.crew")

# Rungs below the smallest bucket: a table that is flat there would call padding free, and titles are that short.
_SHORT_LENGTHS = (4, 8)
# What the choice of lanes is measured on: a batch of short rows and a lone long one, as shares of the ladder.
_SHORT_ROWS = 8


class Crew:
    """Opens, watches and closes the lanes of one model. Owned by its embedder."""

    def __init__(self, bundle: Bundle, config: RuntimeConfig, probes: Probes) -> None:
        """`probes`: what test and warm-up are made of. Raises what `backends.ready` raises, and BackendError."""
        self._bundle = bundle
        graphs = tuple(dict.fromkeys(graph for tower in probes.towers.values() for graph in tower.graphs))
        self._backend, self.backend_reason = backends.ready(Model(bundle, config, graphs, probes))
        self.token_budget = config.token_budget or self._backend.token_budget
        self._config = config
        self._probes = probes
        self._towers = probes.towers
        self._changed = threading.Condition()  # owned by whoever reports or waits for a change of a lane
        self._stamps: dict[str, tuple[int, ...]] = {}  # what the graphs' files were when they were first opened
        self._sharing = threading.Lock()  # held by a lane's thread while it opens or closes its program
        self._shared: Program | None = None
        self._users: dict[Program, int] = {}
        self.trunks = trunks(bundle.manifest, self._towers)
        self._keys = {name: Measured.key(bundle, self._backend, config, name) for name in self.trunks.values()}
        self._tables = {name: self._table(name) for name in self._keys}
        self.costs = {name: self._tables[trunk] for name, trunk in self.trunks.items()}
        stored = {name: Measured.recall(key) for name, key in self._keys.items()}
        try:
            self.slots = self._slots(next(iter(stored.values())))
        except BaseException:
            self._backend.close()
            raise
        for name, record in stored.items():
            if record is not None and record.suits(self.slots, self._tables[name]):
                self._tables[name].restore(record.seconds)
        self.lanes: list[Lane] = []

    @property
    def backend(self) -> str:
        """The backend that runs the model, with its version."""
        return f"{self._backend.name} {self._backend.version()}"

    @property
    def alive(self) -> bool:
        """Whether at least one lane can run batches now."""
        return any(lane.alive for lane in self.lanes)

    @property
    def given_up(self) -> bool:
        """Whether no lane is alive, and none will be."""
        return all(lane.given_up for lane in self.lanes)

    def start(
        self,
        take: Callable[[], Batch | None],
        deliver: Callable[[Batch, Outcome], None],
        changed: Callable[[], None],
    ) -> None:
        """Start the lanes and wait until all are alive; the first that cannot open is raised."""

        def report(_: Lane) -> None:
            changed()
            with self._changed:
                self._changed.notify_all()

        for number in range(self.slots.lanes):
            lane = Lane(
                f"{self._bundle.manifest.name}-{number}",
                open_program=self._enter,
                close_program=self._exit,
                compute=self._compute,
                probes=[self._probes.batch(tower, 2, self._probes.width(tower)) for tower in self._towers],
                warm_up=self._warm_up,
                take=take,
                deliver=deliver,
                changed=report,
            )
            self.lanes.append(lane)
        for lane in self.lanes:
            lane.start()
        with self._changed:
            self._changed.wait_for(lambda: all(lane.alive or lane.error for lane in self.lanes))
        broken = next((lane.error for lane in self.lanes if lane.error is not None), None)
        if broken is not None:
            raise broken if isinstance(broken, EmbedgeError) else BackendError(f"the lane cannot run: {broken}")
        self._store()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for all lanes to end, once `take` answers None, and keep what was learned; False if one hangs."""
        end = None if timeout is None else time.monotonic() + timeout
        ended = [lane.join(None if end is None else max(0.0, end - time.monotonic())) for lane in self.lanes]
        if self.lanes and all(cost.measured for cost in self._tables.values()):
            self._store()
        if all(ended):
            self._backend.close()
        return all(ended)

    def _enter(self) -> Program:
        """Return a program for a lane: a fresh one, or the one that lanes of one thread each share."""
        with self._sharing:
            if self._shared is None or self.slots.threads > 1 or not self._backend.shares:
                self._shared = self._open(self.slots)
            self._users[self._shared] = self._users.get(self._shared, 0) + 1
            return self._shared

    def _exit(self, program: Program) -> None:
        """Close a lane's program, unless others still run it; no lane enters it any more."""
        with self._sharing:
            if program is self._shared:
                self._shared = None
            self._users[program] -= 1
            if not self._users[program]:
                del self._users[program]
                program.close()

    def _open(self, slots: Slots) -> Program:
        manifest = self._bundle.manifest
        names = {step for tower in self._towers.values() for step in tower.graphs}
        slot = self._backend.slot(threads=slots.threads, wake=lambda: None)
        return Program(manifest, {name: slot.open(name, self._graph(name)) for name in names})

    def _graph(self, name: str) -> Path:
        """Return a graph's file. Raises BundleError if it is not the one that was there at the start."""
        path = self._bundle.graph(name)
        facts = path.stat()
        stamp = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        if self._stamps.setdefault(name, stamp) != stamp:
            raise BundleError(f"{path}: changed on disk since the model was opened; open it again to use what is there")
        return path

    def _compute(self, program: Program, batch: Batch) -> Computed:
        return program.run(batch.towers, self._probes.feeds(batch))

    def _warm_up(self, compute: Callable[[Batch], object]) -> None:
        """Measure the cost tables in a lane's thread, while its siblings do the same: so they will run later, too."""
        if self._config.warm_up_seconds:
            for tower in self._tables:
                self._measure(tower, compute)

    def _measure(self, tower: str, compute: Callable[[Batch], object]) -> None:
        """Measure a trunk's cost table by its first tower, in its share of the time, unless what is stored holds."""

        def run(rows: int, length: int) -> None:
            compute(self._probes.batch(tower, rows, length))

        cost = self._tables[tower]
        if not (cost.measured and cost.fits(run)):
            budget = self._config.warm_up_seconds / len(self._tables)
            cost.measure(run, budget=budget, tokens=self.token_budget)

    def _table(self, tower: str) -> CostTable:
        """Return a tower's cost table, not measured yet; its only length is the probe's where rows do not differ."""
        least = self._probes.width(tower)
        lengths = [length for length in (*_SHORT_LENGTHS, *self._usual(tower)) if length >= least]
        varies = lengths and self._probes.layouts[tower].varies
        return CostTable(self._towers[tower].buckets.batches, lengths if varies else [least])

    def _usual(self, tower: str) -> list[int]:
        """Return a tower's usual lengths, the last of them its limit: the bundle's, or those of the settings."""
        buckets = self._towers[tower].buckets.lengths
        chosen = buckets if self._config.lengths is None else self._config.lengths
        return [*(length for length in chosen if length < max(buckets)), max(buckets)]

    def _slots(self, stored: Measured | None) -> Slots:
        """Return how the cores are cut: as the settings say, as stored, or as measured now."""
        lanes, threads = self._config.lanes, self._config.threads
        if lanes or threads or not self._config.warm_up_seconds:
            number = lanes or max(1, cores() // (threads or cores()))
            return Slots(number, threads or max(1, cores() // number), "as the settings say")
        if stored is not None and max(stored.slots.lanes, stored.slots.threads) <= cores():
            return stored.slots
        opened: list[Program] = []
        try:
            return choose(self._backend.candidates(), lambda slots: self._trial(slots, opened))
        except EmbedgeError:
            raise
        except Exception as error:  # what a backend raises is its own business
            raise BackendError(f"the model cannot run: {error}") from error
        finally:
            for program in opened:
                program.close()

    def _trial(self, slots: Slots, opened: list[Program]) -> Callable[[], int]:
        """Return a run of typical work under `slots`, for the measured choice; its amount is in runs."""
        program = self._open(slots)
        opened.append(program)
        tower = next(iter(self._towers))
        lengths = self.costs[tower].lengths
        usual = [length for length in lengths if length in self._usual(tower)] or lengths
        rows = max(1, min(_SHORT_ROWS, self.token_budget // usual[0]))
        batches = [self._probes.batch(tower, rows, usual[0]), self._probes.batch(tower, 1, usual[len(usual) // 2])]

        def run() -> int:
            for batch in batches:
                self._compute(program, batch)
            return 1

        return run

    def _store(self) -> None:
        for tower, cost in self._tables.items():
            Measured(self.slots, cost.rows, cost.lengths, cost.grid).keep(self._keys[tower])

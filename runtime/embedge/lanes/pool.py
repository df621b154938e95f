"""The crew: a model's lanes, how many there are, what they measured, and whether any of them is alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from embedge import backends
from embedge.backends import BackendModel
from embedge.backends.cores import LaneSplit, cores
from embedge.batches.batch import Batch, trunks
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.cancel import CancelToken
from embedge.config import RuntimeConfig
from embedge.errors import BackendError, EmbedgeError
from embedge.lanes.executors import ExecutorFactory
from embedge.lanes.lane import Lane
from embedge.lanes.measurements import StartupMeasurements
from embedge.lanes.outcome import Outcome
from embedge.lanes.trial import measure_splits
from embedge.lanes.watchdog import Watchdog
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.scheduler import Scheduler

__all__ = ["LanePool"]

log = logging.getLogger("embedge.crew")

# Rungs below the smallest bucket: a table that is flat there would call padding free, and titles are that short.
_SHORT_LENGTHS = (4, 8)
_SHORT_ROWS = 8  # what the choice of lanes is measured on, beside a lone long one


class LanePool:
    """Opens, watches and closes the lanes of one model. Owned by its embedder."""

    def __init__(self, bundle: Bundle, config: RuntimeConfig, probes: Probes, cancel: CancelToken) -> None:
        """probes: what test and warm-up are made of. cancel: ends what takes minutes.

        Raises what `backends.ready` raises, and BackendError.
        """
        self._model = BackendModel(bundle, config, probes.graphs, probes, cancel)
        self._backend, self.backend_reason = backends.ready(self._model)
        self.max_batch_tokens = config.max_batch_tokens or self._backend.max_batch_tokens
        self._config = config
        self._probes = probes
        self._towers = probes.towers
        self._changed = threading.Condition()  # owned by whoever reports or waits for a change of a lane
        self.trunks = trunks(bundle.manifest, self._towers)
        self._keys = {
            name: StartupMeasurements.key(bundle, self._backend, config, name) for name in self.trunks.values()
        }
        self._tables = {name: self._table(name) for name in self._keys}
        self.costs = {name: self._tables[trunk] for name, trunk in self.trunks.items()}
        stored = {name: StartupMeasurements.recall(key) for name, key in self._keys.items()}
        try:
            self.slots = self._slots(next(iter(stored.values())))
        except BaseException:
            self._backend.close()
            raise
        for name, record in stored.items():
            if record is not None and record.suits(self.slots, self._tables[name]):
                self._tables[name].restore(record.seconds)
        share = self._backend.shares and self.slots.threads == 1
        self._new_rack = partial(ExecutorFactory, self._model, self._backend, threads=self.slots.threads, share=share)
        self._rack = self._new_rack()
        hang_seconds = config.hang_seconds or self._backend.hang_seconds
        self._watch = Watchdog(lambda: self.lanes, self._replace, hang_seconds=hang_seconds)
        self.lanes: list[Lane] = []
        self._left: list[Lane] = []  # abandoned, and their threads may be there for ever
        self._replacing = False  # while all lanes are there, from the start to the end

    @property
    def backend(self) -> str:
        """The backend that runs the model, with its version."""
        return f"{self._backend.name} {self._backend.version()}"

    @property
    def device(self) -> str:
        """The name of what the backend computes on."""
        return self._backend.device()

    @property
    def max_in_flight(self) -> int:
        """Batches that a lane may have in flight."""
        return self._backend.max_in_flight

    @property
    def cuda_graphs(self) -> int:
        """Shapes of batches that a lane replays from captured graphs; 0: none."""
        return self._backend.cuda_graphs

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
        scheduler: Scheduler,
        deliver: Callable[[Batch, Outcome], None],
        changed: Callable[[], None],
    ) -> None:
        """Start the lanes and wait until all are alive; the first that cannot open is raised. See `Lane`."""

        def report(lane: Lane) -> None:
            if self.given_up:
                log.error("%s: no lane is left; it serves no more until this process starts anew", lane.name)
            changed()
            with self._changed:
                self._changed.notify_all()

        self._made = partial(
            Lane,
            probes=[self._probes.batch(tower, 2, self._probes.width(tower)) for tower in self._towers],
            take=scheduler.take,
            interrupt=scheduler.interrupt,
            deliver=deliver,
            changed=report,
            max_in_flight=self._backend.max_in_flight,
        )
        name = self._model.bundle.manifest.name
        self.lanes += [self._lane(f"{name}-{number}", self._warm_up) for number in range(self.slots.lanes)]
        self._watch.start()
        for lane in self.lanes:
            lane.start()
        with self._changed:
            self._changed.wait_for(lambda: all(lane.alive or lane.error for lane in self.lanes))
        broken = next((lane.error for lane in self.lanes if lane.error is not None), None)
        if broken is not None:
            raise broken if isinstance(broken, EmbedgeError) else BackendError(f"the lane cannot run: {broken}")
        self._replacing = True
        if self._config.warm_up_seconds:
            self._store()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for all lanes to end, once `take` answers None, and keep what was learned; False if one hangs."""
        self._replacing = False
        end = None if timeout is None else time.monotonic() + timeout
        ended = [lane.join(None if end is None else max(0.0, end - time.monotonic())) for lane in self.lanes]
        self._watch.close()  # until here, or a lane that hangs would be waited for without end
        ended += [lane.join(0.0) for lane in self._left]
        if self.lanes and self._config.warm_up_seconds and all(cost.measured for cost in self._tables.values()):
            self._store()
        if all(ended):
            self._backend.close()
        return all(ended)

    def _replace(self, lane: Lane, inside: float) -> None:
        """Let another lane take the place of one that hangs, in the watch's thread; the old one is left behind."""
        where = "in one batch" if lane.alive else "opening or closing its sessions"
        log.error("lane %s hangs: it has been %s for %.1f s; it is abandoned", lane.name, where, inside)
        error = BackendError(f"the lane hung: it was {where} for {inside:.1f} s")
        if not self._replacing:
            lane.abandon(error)
            return
        if not lane.alive:  # it may hold the rack's lock for ever
            self._rack = self._new_rack()
        another = self._lane(lane.name, lambda _: None, failures=lane.failures + 1)
        self._left.append(lane)
        self.lanes[self.lanes.index(lane)] = another
        lane.abandon(error)
        another.start()

    def _lane(self, name: str, warm_up: Callable[[Callable[[Batch], object]], None], failures: int = 0) -> Lane:
        rack = self._rack
        return self._made(name, open_post=rack.enter, close_post=rack.exit, warm_up=warm_up, failures=failures)

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
            cost.measure(run, budget=budget, tokens=self.max_batch_tokens)

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

    def _slots(self, stored: StartupMeasurements | None) -> LaneSplit:
        """Return how the cores are cut: as the settings say, as stored, or as measured now."""
        lanes, threads = self._config.lanes, self._config.threads
        if lanes or threads or not self._config.warm_up_seconds:
            number = lanes or max(1, cores() // (threads or cores()))
            return LaneSplit(number, threads or max(1, cores() // number), "as the settings say")
        possible = {(option.lanes, option.threads) for option in self._backend.candidates()}
        if stored is not None and (stored.slots.lanes, stored.slots.threads) in possible:
            return stored.slots
        try:
            return measure_splits(self._model, self._backend, self._typical())
        except EmbedgeError:
            raise
        except Exception as error:  # what a backend raises is its own business
            raise BackendError(f"the model cannot run: {error}") from error

    def _typical(self) -> list[Batch]:
        """Return a batch of short rows and a lone long one, of the first tower."""
        tower = next(iter(self._towers))
        lengths = self.costs[tower].lengths
        usual = [length for length in lengths if length in self._usual(tower)] or lengths
        rows = max(1, min(_SHORT_ROWS, self.max_batch_tokens // usual[0]))
        return [self._probes.batch(tower, rows, usual[0]), self._probes.batch(tower, 1, usual[len(usual) // 2])]

    def _store(self) -> None:
        for tower, cost in self._tables.items():
            StartupMeasurements(self.slots, cost.rows, cost.lengths, cost.grid).keep(self._keys[tower])

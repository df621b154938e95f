"""What is settled before a model's first lane opens: the backend, the lane split and the cost tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
from embedge.lanes.lane import WarmUp
from embedge.lanes.measurements import StartupMeasurements
from embedge.lanes.trial import measure_splits
from embedge.scheduling.cost_table import CostTable

__all__ = ["LaneSetup"]

# Lengths below the smallest bucket: a table that is flat there would call padding free, and titles are that short.
_SHORT_LENGTHS = (4, 8)
_SHORT_ROWS = 8  # of the short batch that lane splits are measured with, beside a long one of one row


class LaneSetup:
    """The backend of a model, how its lanes share the cores, and what batches cost.

    Attributes:
        name: The model's name.
        backend: The backend, open.
        reason: Why this backend was chosen.
        split: How many lanes run, with how many threads each.
        max_batch_tokens: Padded tokens of a batch at most.
        trunks: By tower, the tower whose batches its rows join.
        costs: By tower, its cost table. Towers of one trunk share a table.
        hang_seconds: See `Watchdog`.
    """

    def __init__(self, bundle: Bundle, config: RuntimeConfig, probes: Probes, cancel: CancelToken) -> None:
        """Choose a backend and a lane split. Raises what `backends.ready` raises.

        Args:
            bundle: The model.
            config: Its settings.
            probes: Small items for tests and measurements.
            cancel: Cancels building plans.

        Raises:
            BackendError: The model cannot run.
        """
        self._model = BackendModel(bundle, config, probes.graphs, probes, cancel)
        self._config = config
        self._probes = probes
        self.name = bundle.manifest.name
        self.backend, self.reason = backends.ready(self._model)
        self.max_batch_tokens = config.max_batch_tokens or self.backend.max_batch_tokens
        self.hang_seconds = config.hang_seconds or self.backend.hang_seconds
        self.trunks = trunks(bundle.manifest, probes.towers)
        self._keys = {
            name: StartupMeasurements.key(bundle, self.backend, config, name) for name in self.trunks.values()
        }
        self._tables = {name: self._table(name) for name in self._keys}
        self.costs: Mapping[str, CostTable] = {name: self._tables[trunk] for name, trunk in self.trunks.items()}
        stored = {name: StartupMeasurements.load(key) for name, key in self._keys.items()}
        try:
            self.split = self._choose_split(next(iter(stored.values())))
        except BaseException:
            self.backend.close()
            raise
        for name, record in stored.items():
            if record is not None and record.fits(self.split, self._tables[name]):
                self._tables[name].restore(record.seconds)

    @property
    def measures(self) -> bool:
        """Whether this start measures. One that does not stores nothing for later starts."""
        return self._config.warm_up_seconds > 0

    def executors(self) -> ExecutorFactory:
        """Return a new factory of executors for the lanes."""
        share = self.backend.shares and self.split.threads == 1
        return ExecutorFactory(self._model, self.backend, threads=self.split.threads, share=share)

    def probes(self) -> list[Batch]:
        """Return a small batch for each tower, for self-tests."""
        return [self._probes.batch(tower, 2, self._probes.width(tower)) for tower in self._probes.towers]

    def warm_up(self) -> WarmUp | None:
        """Return the function that measures the cost tables in a lane's thread; None if this start does not measure.

        All lanes measure at the same time, because they will run at the same time.
        """
        if not self.measures:
            return None

        def warm_up(compute: Callable[[Batch], object]) -> None:
            for tower in self._tables:
                self._measure(tower, compute)

        return warm_up

    def save(self) -> None:
        """Store the measurements for later starts with the same settings, once every table is measured."""
        if not self.measures or not all(table.measured for table in self._tables.values()):
            return
        for tower, table in self._tables.items():
            StartupMeasurements(self.split, table.rows, table.lengths, table.grid).save(self._keys[tower])

    def _measure(self, tower: str, compute: Callable[[Batch], object]) -> None:
        """Measure a trunk's table by its first tower, in its share of the time, unless the stored table still holds."""

        def run(rows: int, length: int) -> None:
            compute(self._probes.batch(tower, rows, length))

        table = self._tables[tower]
        if not (table.measured and table.fits(run)):
            budget = self._config.warm_up_seconds / len(self._tables)
            table.measure(run, budget=budget, tokens=self.max_batch_tokens)

    def _table(self, tower: str) -> CostTable:
        """Return a tower's cost table, not measured yet. Its only length is the probe's where all rows are equal."""
        least = self._probes.width(tower)
        lengths = [length for length in (*_SHORT_LENGTHS, *self._bucket_lengths(tower)) if length >= least]
        varies = lengths and self._probes.layouts[tower].varies
        return CostTable(self._probes.towers[tower].buckets.batches, lengths if varies else [least])

    def _bucket_lengths(self, tower: str) -> list[int]:
        """Return a tower's bucket lengths, the last of them its limit: the bundle's, or those of the settings."""
        buckets = self._probes.towers[tower].buckets.lengths
        chosen = buckets if self._config.lengths is None else self._config.lengths
        return [*(length for length in chosen if length < max(buckets)), max(buckets)]

    def _choose_split(self, stored: StartupMeasurements | None) -> LaneSplit:
        """Return the lane split: as the settings give it, as an earlier start measured it, or measured now."""
        lanes, threads = self._config.lanes, self._config.threads
        if lanes or threads or not self.measures:
            number = lanes or max(1, cores() // (threads or cores()))
            return LaneSplit(number, threads or max(1, cores() // number), "from the settings, not measured")
        possible = {(option.lanes, option.threads) for option in self.backend.candidates()}
        if stored is not None and (stored.split.lanes, stored.split.threads) in possible:
            return stored.split
        try:
            return measure_splits(self._model, self.backend, self._typical())
        except EmbedgeError:
            raise
        except Exception as error:  # a backend may raise anything
            raise BackendError(f"the model cannot run: {error}") from error

    def _typical(self) -> list[Batch]:
        """Return a batch of short rows and a long one of one row, of the first tower."""
        tower = next(iter(self._probes.towers))
        lengths = self.costs[tower].lengths
        usual = [length for length in lengths if length in self._bucket_lengths(tower)] or lengths
        rows = max(1, min(_SHORT_ROWS, self.max_batch_tokens // usual[0]))
        return [self._probes.batch(tower, rows, usual[0]), self._probes.batch(tower, 1, usual[len(usual) // 2])]

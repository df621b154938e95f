"""What one start measured and the next may use: how the cores are cut into lanes, and what batches cost."""

from __future__ import annotations

import msgspec

from embedge import cache
from embedge.backends import Backend
from embedge.backends.cores import LaneSplit, cores
from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.scheduling.cost_table import CostTable

__all__ = ["StartupMeasurements"]

_KIND = "startup"  # "cost" may hold lane splits that nothing measured


class StartupMeasurements(msgspec.Struct, frozen=True):
    """A record in the cache, of one tower: how the cores were cut, and the tower's cost table.

    It holds for one device, its cores, the settings, the towers that run beside it, the backend's version and the
    tower's graphs.
    """

    slots: LaneSplit
    rows: list[int]
    lengths: list[int]
    seconds: list[list[float]]

    @staticmethod
    def key(bundle: Bundle, backend: Backend, config: RuntimeConfig, tower: str) -> str:
        """Return the record's name."""
        manifest = bundle.manifest
        graphs = [manifest.graphs[step].sha256 for step in manifest.towers[tower].graphs]
        here = (backend.device(), cores(), config.lanes, config.threads, config.towers, backend.name, backend.version())
        return cache.key(*here, tower, *graphs)

    @classmethod
    def recall(cls, key: str) -> StartupMeasurements | None:
        """Return the record of an earlier start, or None where there is none that makes sense."""
        return cache.load(_KIND, key, cls)

    def suits(self, slots: LaneSplit, table: CostTable) -> bool:
        """Return whether the figures are of lanes like these, over the ladder of this table."""
        same = (self.slots.lanes, self.slots.threads) == (slots.lanes, slots.threads)
        return same and (self.rows, self.lengths) == (table.rows, table.lengths)

    def keep(self, key: str) -> None:
        """Write the record for the next start."""
        cache.save(_KIND, key, self)

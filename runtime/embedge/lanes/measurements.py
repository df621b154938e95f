"""What one start measured and later starts use: the lane split, and the costs of batches."""

from __future__ import annotations

import msgspec

from embedge import cache
from embedge.backends import Backend
from embedge.backends.cores import LaneSplit, cores
from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.scheduling.cost_table import CostTable

__all__ = ["StartupMeasurements"]

# Change the name whenever stored records must not be read any more. Records of the kind "cost" may hold lane splits
# that came from settings.
_KIND = "measurements"


class StartupMeasurements(msgspec.Struct, frozen=True):
    """A record in the cache, for one trunk. Holds measured values only.

    It is valid for one device, its cores, the settings, the towers loaded beside it, the backend's version and the
    graphs of the tower.

    Attributes:
        split: The lane split.
        rows: Rows of the cost table's grid.
        lengths: Lengths of the grid.
        seconds: The grid, seconds[row][length].
    """

    split: LaneSplit
    rows: list[int]
    lengths: list[int]
    seconds: list[list[float]]

    @staticmethod
    def key(bundle: Bundle, backend: Backend, config: RuntimeConfig, tower: str) -> str:
        """Return the record's name in the cache."""
        manifest = bundle.manifest
        graphs = [manifest.graphs[step].sha256 for step in manifest.towers[tower].graphs]
        here = (backend.device(), cores(), config.lanes, config.threads, config.towers, backend.name, backend.version())
        return cache.key(*here, tower, *graphs)

    @classmethod
    def load(cls, key: str) -> StartupMeasurements | None:
        """Return the record of an earlier start, or None if none can be read."""
        return cache.load(_KIND, key, cls)

    def fits(self, split: LaneSplit, table: CostTable) -> bool:
        """Return whether the costs were measured with this lane split, over the grid of this table."""
        same = (self.split.lanes, self.split.threads) == (split.lanes, split.threads)
        return same and (self.rows, self.lengths) == (table.rows, table.lengths)

    def save(self, key: str) -> None:
        """Write the record for later starts."""
        cache.save(_KIND, key, self)

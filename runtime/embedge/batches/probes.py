"""Makes batches of any size from one small prepared item of each tower, to test and measure with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from embedge.batches.batch import Batch, Layout, layout, pad, stretch
from embedge.bundle.manifest import Manifest, Tower

__all__ = ["Probes"]


class Probes:
    """The loaded towers, their layouts, and a small item of each. Immutable.

    Attributes:
        towers: The loaded towers by name.
        layouts: By tower, how its rows become arrays.
    """

    def __init__(self, manifest: Manifest, items: Mapping[str, Batch]) -> None:
        """Collect the probes.

        Args:
            manifest: The model's manifest.
            items: For each loaded tower, a batch of one small item with all its parts.
        """
        self._items = dict(items)
        self.towers: dict[str, Tower] = {name: manifest.towers[name] for name in items}
        self.layouts: dict[str, Layout] = {name: layout(manifest, tower) for name, tower in self.towers.items()}

    @property
    def graphs(self) -> tuple[str, ...]:
        """The graphs of all towers, each once."""
        return tuple(dict.fromkeys(graph for tower in self.towers.values() for graph in tower.graphs))

    def width(self, tower: str) -> int:
        """Return the length of the tower's probe."""
        return self._items[tower].width

    def arrays(self, tower: str) -> Mapping[str, NDArray[np.generic]]:
        """Return the probe's prepared arrays by graph input, (length, …), without a row axis, padding and masks."""
        return self._items[tower].rows[0]

    def batch(self, tower: str, rows: int, length: int) -> Batch:
        """Return a batch of `rows` equal rows of this length. The cost of a row does not depend on its values."""
        row = stretch(self.arrays(tower), self.layouts[tower], length / self.width(tower))
        return Batch([tower] * rows, [row] * rows, [length] * rows)

    def feeds(self, batch: Batch, length_multiple: int = 1) -> dict[str, NDArray[np.generic]]:
        """Return the batch's input arrays, each (rows, …), padded to a multiple of `length_multiple`."""
        return pad(batch.rows, self.layouts[batch.towers[0]], length_multiple)

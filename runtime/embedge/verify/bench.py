"""Chosen rows in chosen batches, straight on a backend session: what the invariances need and the scheduler decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedge import backends
from embedge.batch import Layout, Row, layout, pad
from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.errors import BackendError, EmbedgeError
from embedge.inputs.items import ItemInput
from embedge.lane import Program
from embedge.request import Request

__all__ = ["Bench"]

Floats = NDArray[np.float32]

_ROWS = 48


class Bench:
    """Runs chosen rows in chosen batches, straight on a backend session of its own."""

    def __init__(self, bundle: Bundle, texts: Sequence[str], config: RuntimeConfig) -> None:
        tower = next(iter(bundle.manifest.towers))
        self._tower = tower
        self._tensor = next(iter(bundle.manifest.towers[tower].outputs.values())).tensor
        self._layout: Layout = layout(bundle.manifest, bundle.manifest.towers[tower])
        backend, _ = backends.choose(config.backend)
        threads = config.threads or 1
        graphs = bundle.manifest.towers[tower].steps
        sessions = {name: backend.open(bundle.graph(name), threads=threads) for name in graphs}
        self._program = Program(bundle.manifest, sessions)
        inputs = ItemInput(bundle, tower, config)
        # Every few texts, so that short and long ones are among them; sorted rows would make tame batches.
        self.texts = [texts[index] for index in range(0, len(texts), max(1, len(texts) // _ROWS))]
        self._rows = [_good(row) for row in inputs.prepare(self.texts, Request(items=self.texts, truncate=True))]
        self._lengths = [inputs.length(row) for row in self._rows]

    def run(self, rows: Sequence[int], *, extra: int = 0) -> Floats:
        """Return the vectors of the rows as one batch, with `extra` more columns of padding up to the length limit.

        Raises BackendError.
        """
        chosen = [self._rows[row] for row in rows]
        arrays = pad(chosen, self._wider(chosen, extra))
        try:
            return np.asarray(self._program.run(self._tower, arrays)[self._tensor], dtype=np.float32)
        except Exception as error:  # each backend has errors of its own
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise BackendError(f"a batch of {shapes} cannot be computed: {error}") from error

    def close(self) -> None:
        """Close the sessions."""
        self._program.close()

    def mixes(self, sizes: Sequence[int]) -> list[tuple[int, Floats]]:
        """Return (row, vector) for all rows in batches of each size, short rows beside long ones."""
        by_length = np.argsort(self._lengths, kind="stable")
        # Shortest, longest, next shortest, …: the most uneven company there is.
        order = [int(by_length[-1 - n // 2] if n % 2 else by_length[n // 2]) for n in range(len(by_length))]
        found: list[tuple[int, Floats]] = []
        for size in sizes:
            for start in range(0, len(order), size):
                rows = order[start : start + size]
                found += zip(rows, self.run(rows), strict=True)
        return found

    def _wider(self, rows: Sequence[Row], extra: int) -> Layout:
        """Return a layout that pads the rows to `extra` places more than the longest, or to the limit."""
        fills = dict(self._layout.fills)
        for name, fill in fills.items():
            if extra and fill.ragged and fill.width is None and fill.mask_of is None:
                width = max(len(row[name]) for row in rows) + extra
                fills[name] = fill._replace(width=min(width, fill.most or width))
        return replace(self._layout, fills=fills)


def _good(row: Row | EmbedgeError) -> Row:
    if isinstance(row, EmbedgeError):
        raise row
    return row

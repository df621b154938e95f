"""Chosen rows in chosen batches, straight on a backend session: what the invariances need and the scheduler decides."""

from __future__ import annotations

from collections.abc import Sequence

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
        inputs = ItemInput(bundle, tower, max_text_bytes=config.max_text_bytes)
        # Every few texts, so that short and long ones are among them; sorted rows would make tame batches.
        self.texts = [texts[index] for index in range(0, len(texts), max(1, len(texts) // _ROWS))]
        self._limit = inputs.max_length
        self._rows = [_good(row) for row in inputs.prepare(self.texts, Request(items=self.texts, truncate=True))]
        self._lengths = [inputs.length(row) for row in self._rows]

    def run(self, rows: Sequence[int], *, extra: int = 0) -> Floats:
        """Return the vectors of the rows as one batch, with `extra` more columns of padding up to the length limit.

        Raises BackendError.
        """
        lengths = [self._lengths[row] for row in rows]
        arrays = pad([self._rows[row] for row in rows], lengths, self._layout)
        extra = min(extra, self._limit - max(lengths))
        if extra:
            arrays = {name: self._wider(name, array, extra) for name, array in arrays.items()}
        try:
            return np.asarray(self._program.run(self._tower, arrays)[self._tensor], dtype=np.float32)
        except Exception as error:  # each backend has errors of its own
            raise BackendError(
                f"{len(rows)} rows of {max(lengths) + extra} tokens cannot be computed: {error}"
            ) from error

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

    def _wider(self, name: str, array: NDArray[np.generic], extra: int) -> NDArray[np.generic]:
        width = (extra, 0) if self._layout.left else (0, extra)
        return np.pad(array, ((0, 0), width), constant_values=self._layout.pads.get(name, 0))


def _good(row: Row | EmbedgeError) -> Row:
    if isinstance(row, EmbedgeError):
        raise row
    return row

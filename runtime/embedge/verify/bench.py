"""Run chosen rows in chosen batches directly on a backend, to measure invariance without the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge import backends, outputs
from embedge.backends import Arrays, BackendModel
from embedge.batches.batch import Layout, Row, layout, pad
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.bundle.output_specs import Output, ScoresOutput
from embedge.calls.sets import towers
from embedge.config import RuntimeConfig
from embedge.errors import BackendError, EmbedgeError
from embedge.inputs.items import ItemInput
from embedge.lanes.program import Program
from embedge.request import Request
from embedge.scheduling.forming import Limits
from embedge.verify import compare
from embedge.verify.golden import Pairs

__all__ = ["Bench"]

_ROWS = 48


class Bench:
    """Runs chosen rows of one tower in chosen batches, on its own backend sessions."""

    def __init__(self, bundle: Bundle, tower: str, pairs: Pairs, config: RuntimeConfig) -> None:
        """Raises BackendError, and what is wrong with an item."""
        self._tower = tower
        self._spec = bundle.manifest.towers[tower]
        self._layout: Layout = layout(bundle.manifest, self._spec)
        # Every few items, so that short and long ones are among them; sorted rows would make tame batches.
        self._places = range(0, len(pairs.items), max(1, len(pairs.items) // _ROWS))
        self._pairs = pairs
        self.items = [pairs.items[place] for place in self._places]
        inputs = {name: ItemInput.of(bundle, name, config) for name in towers(bundle.manifest, config.towers)}
        own = inputs[tower]
        self._rows = [_good(row) for row in own.prepare(self.items, Request(items=self.items, truncate=True))]
        self._lengths = [own.length(row) for row in self._rows]
        # Of all towers, as an embedder has it: a plan is for what all towers that share its graph may send.
        probes = Probes(bundle.manifest, {name: each.probe() for name, each in inputs.items()})
        graphs = dict.fromkeys(graph for each in probes.towers.values() for graph in each.graphs)
        self._backend, _ = backends.ready(BackendModel(bundle, config, tuple(graphs), probes))
        self._limits = Limits(config.max_batch_size, config.max_batch_tokens or self._backend.max_batch_tokens)
        self._slot = self._backend.slot(threads=config.threads or 1, wake=lambda: None)
        sessions = {name: self._slot.open(name, bundle.graph(name)) for name in self._spec.graphs}
        self._program = Program(bundle.manifest, sessions)

    @property
    def varies(self) -> bool:
        """Whether rows can be padded."""
        return self._layout.varies

    def label(self, row: int) -> str:
        """Return a few words that tell a row's item from others."""
        return self._pairs.label(self._places[row])

    def run(self, rows: Sequence[int], *, extra: int = 0) -> dict[str, list[NDArray[Any]]]:
        """Run rows as one batch.

        Args:
            rows: which rows, in order.
            extra: places of padding beyond the longest row, up to the model's limit.

        Returns:
            For each output one array per row: (dim,), or (k, dim) for ragged outputs, as in `Pairs.outputs`.

        Raises:
            BackendError: the batch can't be computed.
        """
        chosen = [self._rows[row] for row in rows]
        arrays = pad(chosen, self._wider(chosen, extra), self._backend.length_multiple)
        try:
            _, tensors = self._program.run([self._tower] * len(rows), arrays)[self._tower]
        except Exception as error:  # each backend has errors of its own
            shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise BackendError(f"a batch of {shapes} cannot be computed: {error}") from error
        return {name: self._read(output, tensors, len(rows)) for name, output in self._spec.outputs.items()}

    def fitting(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the first of these rows that the scheduler would put into one batch, at least one."""
        longest = 0
        for count, row in enumerate(rows[: self._limits.rows]):
            longest = max(longest, self._lengths[row])
            if count and (count + 1) * longest > self._limits.tokens:
                return rows[:count]
        return rows[: self._limits.rows]

    def close(self) -> None:
        """Close the sessions and the backend. Call it in the thread that opened them."""
        self._program.close()
        self._slot.close()
        self._backend.close()

    def mixes(self, sizes: Sequence[int]) -> list[tuple[int, dict[str, NDArray[Any]]]]:
        """Run all rows in batches of each size, short rows next to long ones.

        Batches that the scheduler wouldn't form are split, because a backend may lack memory for them.

        Returns:
            `(row, results by output)` for every row at every size.
        """
        by_length = np.argsort(self._lengths, kind="stable")
        # Shortest, longest, next shortest, …: the most uneven company there is.
        order = [int(by_length[-1 - n // 2] if n % 2 else by_length[n // 2]) for n in range(len(by_length))]
        found: list[tuple[int, dict[str, NDArray[Any]]]] = []
        for size in sizes:
            left = order
            while left:
                rows = self.fitting(left[:size])
                left = left[len(rows) :]
                results = self.run(rows)
                found += [(row, {name: each[at] for name, each in results.items()}) for at, row in enumerate(rows)]
        return found

    def _read(self, output: Output, tensors: Arrays, count: int) -> list[NDArray[Any]]:
        """Return each row's result, as an embedder would."""
        outputs.fits(output, tensors, count, name=output.tensors[0])
        dim = len(output.labels) if isinstance(output, ScoresOutput) else output.dim
        collector = outputs.collector(output, count, dim=dim, dtype="float32")
        collector.add(range(count), tensors)
        return compare.rows(collector.finish())

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

"""Expected outputs of a graph: real items run through the model's graphs by ONNX Runtime on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.backends import Arrays, PendingArrays, Session
from embedge.backends.gpu.policy import LENGTH_MULTIPLE, MAX_BATCH_TOKENS
from embedge.backends.onnxruntime import OnnxRuntimeBackend
from embedge.batches.batch import Row, pad, stretch
from embedge.batches.probes import Probes
from embedge.batches.shapes import buckets
from embedge.bundle import Bundle
from embedge.calls.sets import towers
from embedge.config import RuntimeConfig
from embedge.errors import BundleError, EmbedgeError
from embedge.inputs.items import ItemInput
from embedge.lanes.program import Program
from embedge.request import Request
from embedge.verify import Golden, Pairs
from embedge_export.tensorrt.failure import PlanError

__all__ = ["CornerCase", "OnnxReference"]

log = logging.getLogger("embedge.tensorrt")

# Lengths of the rows in a batch, as shares of its length: padding must not matter.
_SHARES = (1.0, 0.4, 0.7, 0.1)
_TOKENS = 2048  # most padded tokens that the CPU computes at a time; longer rows are compared one at a time
_ITEMS = 16


@dataclass(frozen=True)
class CornerCase:
    """A few rows at a corner of a profile, with the expected outputs.

    Attributes:
        label: The case, for messages.
        inputs: Arrays by input, `(few rows, ...)` where the first axis is dynamic.
        outputs: The expected arrays by output.
        rows: Most rows in a batch at this corner.
    """

    label: str
    inputs: Arrays
    outputs: Arrays
    rows: int


class OnnxReference:
    """A bundle's graphs in ONNX Runtime, and items to run through them."""

    def __init__(self, bundle: Bundle, config: RuntimeConfig) -> None:
        runner = OnnxRuntimeBackend(config)
        self._missing = runner.missing()
        self._bundle, self._config = bundle, config
        self._slot = runner.slot(threads=config.threads or 0, wake=lambda: None)
        self._sessions: dict[str, Session] = {}
        names = towers(bundle.manifest, config.towers)
        self._inputs = {name: ItemInput.of(bundle, name, config) for name in names}
        self._probes = Probes(bundle.manifest, {name: each.probe() for name, each in self._inputs.items()})
        self._pairs = _golden(bundle)

    def towers(self, graph: str) -> list[str]:
        """Return the towers that run the graph."""
        return [name for name, tower in self._probes.towers.items() if graph in tower.graphs]

    def computes(self, graph: str) -> bool:
        """Return whether ONNX Runtime can run the graph here: where it is installed, and not products of bfloat16."""
        if self._missing:
            log.warning("graph %r is compared with golden pairs only: %s", graph, self._missing)
            return False
        try:
            self._session(graph)
        except BundleError as error:
            log.warning("graph %r is compared with golden pairs only: %s", graph, error.message)
            return False
        return True

    def cases(self, graph: str, session: Session | None = None) -> Iterator[CornerCase]:
        """Yield what the graph is given, and has to give, at the corners of each tower's length buckets.

        session: runs the graph in place of ONNX Runtime, which may not be able to.
        """
        tokens = self._config.max_batch_tokens or MAX_BATCH_TOKENS
        limits = {"max_batch_size": self._config.max_batch_size, "max_batch_tokens": tokens}
        for tower in self.towers(graph):
            for bucket in buckets(self._probes, tower, **limits, lengths=self._config.lengths):
                for length in sorted({bucket.shortest, bucket.longest}):
                    heard = _Heard(session or self._session(graph))
                    self._run(tower, self._batch(tower, length, bucket.rows), graph, heard)
                    for inputs, outputs in heard.runs:
                        label = f"tower {tower!r} at length {length}"
                        yield CornerCase(label, inputs, outputs, min(bucket.rows, max(1, tokens // length)))

    def golden(self, graph: str, session: Session) -> Iterator[tuple[str, str, Arrays, Pairs]]:
        """Yield for golden items the tower, a label, the tensors that it makes, and the pairs of that one item.

        session: runs the graph; others run on ONNX Runtime. Raises PlanError where there are no golden pairs.
        """
        for tower in self.towers(graph):
            pairs = self._pairs.get(tower)
            if pairs is None:
                raise PlanError("unavailable", f"tower {tower!r} has no golden pairs to prove graph {graph!r} with")
            for place in range(0, len(pairs.items), max(1, len(pairs.items) // _ITEMS)):
                (row,) = self._prepared(tower, [pairs.items[place]])
                arrays = pad([row], self._probes.layouts[tower], LENGTH_MULTIPLE)
                yield tower, pairs.label(place), self._run(tower, arrays, graph, session), pairs.take([place])

    def close(self) -> None:
        """Close the sessions."""
        for session in self._sessions.values():
            session.close()
        self._slot.close()

    def _run(self, tower: str, arrays: Arrays, graph: str, session: Session) -> Arrays:
        others = {name: self._session(name) for name in self._probes.towers[tower].graphs if name != graph}
        program = Program(self._bundle.manifest, {**others, graph: session})
        rows = len(next(iter(arrays.values())))
        return program.run([tower] * rows, arrays)[tower][1]

    def _session(self, graph: str) -> Session:
        if self._missing:
            raise PlanError("unavailable", f"what graph {graph!r} gives is needed to prove others, but {self._missing}")
        if graph not in self._sessions:
            self._sessions[graph] = self._slot.open(graph, self._bundle.graph(graph))
        return self._sessions[graph]

    def _batch(self, tower: str, length: int, most: int) -> dict[str, NDArray[np.generic]]:
        """Return up to `most` different rows, the longest of this length, padded as lanes do it."""
        count = max(1, min(len(_SHARES), _TOKENS // length, most))
        form, rows = self._probes.layouts[tower], self._rows(tower)
        chosen = []
        for place, share in enumerate(_SHARES[:count]):
            row = rows[place % len(rows)]
            own = self._inputs[tower].length(row)
            chosen.append(stretch(row, form, max(1, round(length * share)) / own) if form.varies else row)
        return pad(chosen, form, LENGTH_MULTIPLE)

    def _rows(self, tower: str) -> Sequence[Row]:
        """Return prepared golden items; without any, the probe."""
        pairs = self._pairs.get(tower)
        if pairs is None:
            return [self._probes.arrays(tower)]
        return self._prepared(tower, pairs.items[: len(_SHARES)])

    def _prepared(self, tower: str, items: Sequence[Mapping[str, Any]]) -> list[Row]:
        rows = self._inputs[tower].prepare(items, Request(items=items, truncate=True))
        for row in rows:
            if isinstance(row, EmbedgeError):
                raise row
        return [row for row in rows if not isinstance(row, EmbedgeError)]


class _Heard:
    """A session that records its runs."""

    def __init__(self, session: Session) -> None:
        self.runs: list[tuple[Arrays, Arrays]] = []
        self._session = session

    def start(self, feeds: Arrays) -> PendingArrays:
        outputs = self._session.start(feeds)()
        self.runs.append((dict(feeds), outputs))
        return lambda: outputs

    def close(self) -> None:
        """Leave the session open; the reference owns it."""


def _golden(bundle: Bundle) -> Mapping[str, Pairs]:
    try:
        return Golden.read(bundle).towers
    except BundleError as error:
        log.warning("plans are proven without golden pairs: %s", error.message)
        return {}

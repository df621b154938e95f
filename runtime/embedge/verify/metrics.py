"""Measures the metrics of a certificate, each with the input that set it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.arrays import Array
from embedge.bundle.manifest import Manifest, Metric
from embedge.bundle.output_specs import Output, ScoresOutput
from embedge.bundle.records import Better
from embedge.verify import retrieval
from embedge.verify.bench import Bench
from embedge.verify.compare import LOWER, SHARES, compare
from embedge.verify.golden import Golden

__all__ = ["Metrics", "prefixes"]

OutputRows = Mapping[str, Mapping[str, Sequence[Array]]]
"""Results by tower and output: one array per item, shaped as in `Pairs.outputs`."""

_MIXES = (2, 7, 32)
_EXTRA_PADDING = 19
_ENOUGH = 12  # fewest items for which recall@10 means anything


def prefixes(manifest: Manifest) -> dict[tuple[str, str], str]:
    """Return the prefix of each output's metric names: `tower.output.`, or empty if the bundle has one output."""
    known = [(name, output) for name, tower in manifest.towers.items() for output in tower.outputs]
    return {pair: "" if len(known) == 1 else ".".join(pair) + "." for pair in known}


class Metrics:
    """Collects metrics, each with the input that set it.

    Attributes:
        thresholds: threshold of each metric by full name. A metric without one isn't measured.
        measured: the metrics so far, by full name.
    """

    def __init__(self, manifest: Manifest, golden: Golden, thresholds: Mapping[str, float]) -> None:
        """Start without metrics. `golden` holds only the towers to measure."""
        self.thresholds = thresholds
        self.measured: dict[str, Metric] = {}
        self._manifest = manifest
        self._golden = golden
        self._prefixes = {pair: each for pair, each in prefixes(manifest).items() if pair[0] in golden.towers}

    def add(self, name: str, value: float, worst: str = "") -> None:
        """Add a metric if it has a threshold."""
        if name in self.thresholds:
            better: Better = "lower" if name.endswith(LOWER) else "higher"
            threshold = self.thresholds[name]
            self.measured[name] = Metric(value=float(value), threshold=threshold, better=better, worst=worst)

    def sorted(self) -> dict[str, Metric]:
        """Return the metrics, output by output."""
        return {
            name: metric
            for prefix in self._prefixes.values()
            for name, metric in self.measured.items()
            if name.startswith(prefix)
        }

    def parity(self, ours: OutputRows) -> None:
        """Compare each result with the original's.

        Args:
            ours: results of the bundle; the originals are in the golden pairs.
        """
        for (tower, name), prefix in self._prefixes.items():
            pairs = self._golden.towers[tower]
            found, theirs = ours[tower][name], pairs.outputs[name]
            finite = np.array([np.isfinite(row).all() for row in found])
            self.add(f"{prefix}finite", finite.mean(), "" if finite.all() else pairs.label(int(np.argmin(finite))))
            self._compared(self._output(tower, name), prefix, found, theirs, pairs.label, parity=True)

    def retrieval(self, ours: OutputRows) -> None:
        """Search with every item, and compare the hits with those of the original.

        The search runs over the items of other towers with an output of the same space and kind, or, without such a
        tower, over the tower's own items.
        """
        for (tower, name), prefix in self._prefixes.items():
            output = self._output(tower, name)
            pairs = self._golden.towers[tower]
            recalls: list[NDArray[np.float64]] = []
            agreements: list[NDArray[np.float64]] = []
            partners: list[tuple[str, str] | None] = [*self._partners(tower, output)]
            for other in partners or [None]:
                theirs = _search(output, pairs.outputs[name], other and self._golden.towers[other[0]].outputs[other[1]])
                if theirs is not None:
                    found = _search(output, ours[tower][name], other and ours[other[0]][other[1]])
                    recall, agreement = retrieval.compare(theirs, found)
                    recalls.append(recall)
                    agreements.append(agreement)
            if recalls:
                self._least(f"{prefix}recall_at_10", np.mean(recalls, axis=0), pairs.label)
                self._least(f"{prefix}rank_agreement", np.mean(agreements, axis=0), pairs.label)

    def invariance(self, tower: str, bench: Bench) -> None:
        """Compare rows run alone with the same rows in batches, under more padding, and in another order."""
        every = range(len(bench.items))
        alone = _merge([bench.run([row]) for row in every])
        mixed = bench.mixes(_MIXES)
        some = bench.fitting(every[:16])
        reversed_ = {name: rows[::-1] for name, rows in bench.run(some[::-1]).items()}
        padded = _merge([bench.run([row], extra=_EXTRA_PADDING) for row in every]) if bench.varies else None
        straight = bench.run(some)
        for name in alone:
            output, prefix = self._output(tower, name), self._prefixes[tower, name]
            batched, single = [rows[name] for _, rows in mixed], [alone[name][row] for row, _ in mixed]
            self._compared(output, f"{prefix}batch_", batched, single, lambda place: bench.label(mixed[place][0]))
            if padded is not None:
                self._compared(output, f"{prefix}padding_", padded[name], alone[name], bench.label)
            self._compared(output, f"{prefix}order_", reversed_[name], straight[name], bench.label)

    def _output(self, tower: str, name: str) -> Output:
        return self._manifest.towers[tower].outputs[name]

    def _partners(self, tower: str, output: Output) -> list[tuple[str, str]]:
        """Return the first output of each other tower with the same space and kind."""
        if isinstance(output, ScoresOutput):
            return []
        found: dict[str, str] = {}
        for other, spec in self._manifest.towers.items():
            if other not in self._golden.towers:
                continue
            for name, candidate in spec.outputs.items():
                if other != tower and type(candidate) is type(output) and candidate.space == output.space:
                    found.setdefault(other, name)
        return list(found.items())

    def _compared(
        self,
        output: Output,
        prefix: str,
        ours: Sequence[Array],
        theirs: Sequence[Array],
        label: Callable[[int], str],
        *,
        parity: bool = False,
    ) -> None:
        """Add the metrics of all pairs of results: shares as their mean, all others as the worst."""
        compared = [compare(output, a, b) for a, b in zip(ours, theirs, strict=True)]
        for name in compared[0]:
            values = np.array([each[name] for each in compared])
            worst = int(np.argmax(values) if name.endswith(LOWER) else np.argmin(values))
            if name == "cosine" and parity:
                self.add(f"{prefix}cosine_mean", values.mean())
            full = f"{prefix}cosine_min" if name == "cosine" and parity else f"{prefix}{name}"
            self.add(full, values.mean() if name in SHARES else values[worst], label(worst))

    def _least(self, name: str, values: NDArray[np.float64], label: Callable[[int], str]) -> None:
        self.add(name, values.mean(), label(int(np.argmin(values))))


def _search(output: Output, queries: Sequence[Array], items: Sequence[Array] | None) -> Any:
    if min(len(queries), len(queries if items is None else items)) < _ENOUGH:
        return None
    return retrieval.scores(output, queries, items)


def _merge(runs: Sequence[Mapping[str, Sequence[Array]]]) -> dict[str, list[Array]]:
    """Concatenate the rows of several runs."""
    return {name: [row for run in runs for row in run[name]] for name in runs[0]}

"""Measure implementations side by side: rounds in random order, ratios within a round, and accuracy of the vectors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.cases import Items
from benchmarks.gpu.lanes import Vectors, Way
from benchmarks.gpu.records import figure, rounded
from embedge.backends import Arrays
from embedge.batches.batch import Batch
from embedge_bench.results import Estimate
from embedge_bench.stats import estimate, geometric

__all__ = ["Pace", "compared", "gap", "interleaved", "parity", "quotients", "rates", "times"]

Clock = Callable[[], float]
Rounds = Mapping[str, Sequence[Sequence[float]]]
"""The measurements of each round, by implementation."""


@dataclass(frozen=True)
class Pace:
    """How much to measure.

    Attributes:
        rounds: Rounds per implementation.
        batches: Batches in a round of throughput.
        calls: Calls in a round of latency.
    """

    rounds: int = 5
    batches: int = 96
    calls: int = 100


def rates(ways: Sequence[Way], batches: Sequence[Arrays], pace: Pace, clock: Clock = time.perf_counter) -> Rounds:
    """Return rows per second, one value per round."""
    rows = sum(len(next(iter(feeds.values()))) for feeds in batches)

    def once(way: Way) -> list[float]:
        start = clock()
        way.run(batches)
        return [rows / (clock() - start)]

    return interleaved(ways, once, pace.rounds)


def times(ways: Sequence[Way], feeds: Arrays, pace: Pace, clock: Clock = time.perf_counter) -> Rounds:
    """Return the seconds of single calls with the same batch, several per round."""

    def once(way: Way) -> list[float]:
        found = []
        for _ in range(pace.calls):
            start = clock()
            way.run([feeds])
            found.append(clock() - start)
        return found

    return interleaved(ways, once, pace.rounds)


def interleaved(ways: Sequence[Way], once: Callable[[Way], Sequence[float]], rounds: int) -> Rounds:
    """Measure each way once a round, in an order drawn by lot; a round before the first only warms up.

    That is where shapes are seen for the first and the second time, so that graphs are recorded before they count.
    """
    lots = random.Random(0)
    found: dict[str, list[Sequence[float]]] = {way.name: [] for way in ways}
    for number in range(rounds + 1):
        for way in lots.sample(list(ways), len(ways)):
            measured = once(way)
            if number:
                found[way.name].append(measured)
    return found


def compared(found: Rounds, rank: float = 50.0, scale: float = 1.0) -> dict[str, Estimate]:
    """Return each implementation's estimate, over rounds, of a percentile within each round, times `scale`."""
    return {
        name: figure(estimate([scale * float(np.percentile(each, rank)) for each in rounds]))
        for name, rounds in found.items()
    }


def quotients(found: Rounds, way: str, base: str) -> Estimate:
    """Return the geometric mean, over rounds, of an implementation's median divided by the base's in that round."""
    pairs = zip(found[way], found[base], strict=True)
    return figure(geometric([float(np.median(ours) / np.median(theirs)) for ours, theirs in pairs]))


def parity(
    way: Way,
    items: Items,
    reference: tuple[Sequence[Batch], NDArray[np.float32]],
    *,
    length_multiple: int = 1,
    company: int = 8,
) -> tuple[float, float]:
    """Return the gaps of vectors from batches, to the reference and to vectors of single rows (batch invariance)."""
    lone, truth = reference
    groups = [lone[start : start + company] for start in range(0, len(lone), company)]
    alone = way.run([items.feeds(each, length_multiple) for each in lone])
    together = way.run([items.feeds(_joined(group), length_multiple) for group in groups])
    return gap(np.concatenate(together), truth), gap(np.concatenate(together), np.concatenate(alone))


def gap(ours: Vectors, theirs: Vectors) -> float:
    """Return 1 minus the lowest cosine of the rows, at least 0; 2 if a row is not finite or zero."""
    left, right = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    if not np.isfinite(norms).all() or not norms.all():
        return 2.0
    return rounded(max(0.0, float(np.max(1.0 - np.sum(left * right, axis=1) / norms))))


def _joined(group: Sequence[Batch]) -> Batch:
    """Return one batch of several lone items."""
    return Batch(
        [each.towers[0] for each in group], [each.rows[0] for each in group], [each.lengths[0] for each in group]
    )

"""The cost table: what a batch costs in seconds, measured over a ladder of (rows, length) and learned from every batch.

Between the rungs it interpolates, beyond the last it goes on in proportion; it never falls as rows or length grow.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import product

__all__ = ["CostTable"]

# Before anything is measured: right within a small factor on common CPUs.
_FIXED_SECONDS = 5e-4
_TOKEN_SECONDS = 5e-5
# What a batch teaches, as shares (in the exponent) of what it saw. Most of it moves the whole table: a machine that is
# busy is slower at everything, and if only the rungs in use learned that, the others would look cheap and padding free.
# A batch counts for this factor at most: an outlier moves a figure by 1.5 ** 0.2 = 8 % (9 at most, between rungs),
# while a lasting change by 4 is learned in about 20 batches.
_LEVEL_RATE = 0.16
_SHAPE_RATE = 0.04
_OUTLIER = 1.5
# A stored table whose figures are off by more than this factor was measured in another reality.
_MISFIT = 2.0
_REPEATS = 3

Place = tuple[int, int, float, float]


class CostTable:
    """Seconds by (rows, length). Safe to use from any thread.

    Lanes' threads measure, the completion thread observes, the scheduler reads. `seconds` reads without the lock:
    each figure is one float, and a reader may see one batch's lesson half learned.
    """

    def __init__(self, rows: Sequence[int] = (1, 8, 64), lengths: Sequence[int] = (16, 128, 1024)) -> None:
        self.rows = sorted(set(rows))
        self.lengths = sorted(set(lengths))
        self.measured = False
        self._stored = False  # whether the figures are those of an earlier start, which measuring throws away
        self._grid = [[_FIXED_SECONDS + _TOKEN_SECONDS * r * n for n in self.lengths] for r in self.rows]
        self._lock = threading.Lock()  # guards writes to the grid

    @property
    def grid(self) -> list[list[float]]:
        """A copy of the figures: seconds[row rung][length rung]."""
        with self._lock:
            return [list(line) for line in self._grid]

    def seconds(self, rows: int, length: int) -> float:
        """Return the predicted seconds of a batch of `rows` rows padded to `length`."""
        low, high, part, over = _place(self.rows, rows)
        left, right, along, beyond = _place(self.lengths, length)
        first, last = self._grid[low], self._grid[high]
        near = first[left] + (first[right] - first[left]) * along
        far = last[left] + (last[right] - last[left]) * along
        return (near + (far - near) * part) * over * beyond

    def observe(self, rows: int, length: int, seconds: float) -> None:
        """Learn from a batch that took `seconds`."""
        with self._lock:
            ratio = min(_OUTLIER, max(1 / _OUTLIER, seconds / self.seconds(rows, length)))
            low, high, part, _ = _place(self.rows, rows)
            left, right, along, _ = _place(self.lengths, length)
            corners: dict[tuple[int, int], float] = {}
            for (i, wide), (j, tall) in product(((low, 1 - part), (high, part)), ((left, 1 - along), (right, along))):
                corners[i, j] = corners.get((i, j), 0.0) + wide * tall
            whole = sum(weight * weight for weight in corners.values())  # so that a place between rungs learns as fast
            self._grid = [[figure * ratio**_LEVEL_RATE for figure in line] for line in self._grid]
            for (i, j), weight in corners.items():
                self._grid[i][j] *= ratio ** (_SHAPE_RATE * weight / whole)
            # What was just seen is right, so its neighbours give way to it, not it to them.
            self._grid = _rising(self._grid) if ratio > 1 else _falling(self._grid)

    def measure(
        self,
        run: Callable[[int, int], None],
        *,
        budget: float,
        tokens: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Measure the ladder from its cheap end until `budget` seconds are spent; the rest follows in proportion.

        `run(rows, length)` runs one such batch. Batches over `tokens` padded tokens are not run at all,
        but for the smallest.
        """
        start = clock()
        known: dict[tuple[int, int], float] = {}
        run(self.rows[0], self.lengths[0])  # the first run of all pays for what is allocated once
        rungs = product(range(len(self.rows)), range(len(self.lengths)))
        sized = sorted((self.rows[i] * self.lengths[j], i, j) for i, j in rungs)
        for _, i, j in (rung for rung in sized if tokens is None or rung[0] <= max(tokens, sized[0][0])):
            expected = self._from_known(known, i, j) if known else 0.0
            if known and clock() - start + expected > budget:
                break
            known[i, j] = _fastest(run, self.rows[i], self.lengths[j], clock, budget - (clock() - start))
        grid = [
            [known.get((i, j)) or self._from_known(known, i, j) for j in range(len(self.lengths))]
            for i in range(len(self.rows))
        ]
        self._merge(grid)

    def fits(self, run: Callable[[int, int], None], *, clock: Callable[[], float] = time.perf_counter) -> bool:
        """Return whether a few cheap rungs still take about as long as the table says."""
        run(self.rows[0], self.lengths[0])
        ratios = []
        for rows, length in ((self.rows[0], self.lengths[0]), (self.rows[0], self.lengths[1 % len(self.lengths)])):
            ratios.append(_fastest(run, rows, length, clock, 1.0) / self.seconds(rows, length))
        return all(1 / _MISFIT < ratio < _MISFIT for ratio in ratios)

    def restore(self, grid: Sequence[Sequence[float]]) -> bool:
        """Take over stored figures; False if they are not a table of this ladder."""
        shaped = len(grid) == len(self.rows) and all(len(line) == len(self.lengths) for line in grid)
        if not shaped or not all(0 < figure < float("inf") for line in grid for figure in line):
            return False
        with self._lock:
            self._grid = _rising([list(line) for line in grid])
            self.measured = self._stored = True
        return True

    def _merge(self, grid: list[list[float]]) -> None:
        """Take over a lane's figures; where a sibling measured too, the mean of both (of their logarithms)."""
        with self._lock:
            if self.measured and not self._stored:
                grid = [
                    [(a * b) ** 0.5 for a, b in zip(*lines, strict=True)]
                    for lines in zip(grid, self._grid, strict=True)
                ]
            self._grid = _falling(grid)  # what disturbs a run only ever makes it slower
            self.measured, self._stored = True, False

    def _from_known(self, known: dict[tuple[int, int], float], i: int, j: int) -> float:
        """Return a rung's seconds in proportion to the measured rung nearest to it in size."""
        size = self.rows[i] * self.lengths[j]
        (a, b), seconds = max(
            known.items(), key=lambda item: ((item[0][1] == j), self.rows[item[0][0]] * self.lengths[item[0][1]])
        )
        return seconds * size / (self.rows[a] * self.lengths[b])


def _fastest(
    run: Callable[[int, int], None], rows: int, length: int, clock: Callable[[], float], budget: float
) -> float:
    """Return the least of a few timings: what disturbs a run only ever makes it slower."""
    times: list[float] = []
    while len(times) < _REPEATS and (not times or sum(times) + min(times) < budget / 4):
        start = clock()
        run(rows, length)
        times.append(max(clock() - start, 1e-7))
    return min(times)


def _place(rungs: list[int], value: int) -> Place:
    """Return the rungs around a value, how far it is between them, and the factor by which it lies beyond the last."""
    if value <= rungs[0]:
        return 0, 0, 0.0, 1.0
    last = len(rungs) - 1
    if value >= rungs[last]:
        return last, last, 0.0, value / rungs[last]
    low = bisect_right(rungs, value) - 1
    return low, low + 1, (value - rungs[low]) / (rungs[low + 1] - rungs[low]), 1.0


def _rising(grid: list[list[float]]) -> list[list[float]]:
    """Return the grid with every figure at least as large as those of fewer rows or shorter rows."""
    for i, line in enumerate(grid):
        for j in range(len(line)):
            line[j] = max(line[j], line[j - 1] if j else 0.0, grid[i - 1][j] if i else 0.0)
    return grid


def _falling(grid: list[list[float]]) -> list[list[float]]:
    """Return the grid with every figure at most as large as those of more rows or longer rows."""
    for i in reversed(range(len(grid))):
        line = grid[i]
        for j in reversed(range(len(line))):
            longer = line[j + 1] if j + 1 < len(line) else line[j]
            line[j] = min(line[j], longer, grid[i + 1][j] if i + 1 < len(grid) else line[j])
    return grid

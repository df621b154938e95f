"""Predicts the seconds of a batch from its rows and length: measured over a grid, and learned from every batch.

It interpolates inside the grid and extrapolates in proportion beyond it. The prediction never falls as rows or length
grow.
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
# Learning rates, as exponents of the observed ratio. Most of it moves the whole table: a busy machine is slower at
# everything, and if only the points in use learned that, the others would look cheap and padding free. The ratio of a
# batch is clipped: an outlier moves a value by 1.5 ** 0.2 = 8 % (9 at most, between points), while a lasting change by
# a factor of 4 is learned in about 20 batches.
_LEVEL_RATE = 0.16
_SHAPE_RATE = 0.04
_OUTLIER = 1.5
# A stored table off by more than this factor was measured under other conditions, and is measured again.
_MISFIT = 2.0
_REPEATS = 3

Place = tuple[int, int, float, float]


class CostTable:
    """Seconds by (rows, length). Safe to use from any thread.

    Lanes' threads measure, the completer's thread observes, the scheduler reads. `seconds` reads without the lock: each
    value is one float, and a reader may see an update half done.

    Attributes:
        rows: Rows of the grid, ascending.
        lengths: Lengths of the grid, ascending.
        measured: Whether the values were measured, now or at an earlier start.
    """

    def __init__(self, rows: Sequence[int] = (1, 8, 64), lengths: Sequence[int] = (16, 128, 1024)) -> None:
        """Create a table with estimated values over a grid."""
        self.rows = sorted(set(rows))
        self.lengths = sorted(set(lengths))
        self.measured = False
        self._stored = False  # values of an earlier start: measuring replaces them
        self._grid = [[_FIXED_SECONDS + _TOKEN_SECONDS * r * n for n in self.lengths] for r in self.rows]
        self._lock = threading.Lock()  # guards writes to the grid

    @property
    def grid(self) -> list[list[float]]:
        """A copy of the values, grid[row][length], in seconds."""
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
        """Learn from a batch of `rows` rows, padded to `length`, that took `seconds`."""
        with self._lock:
            ratio = min(_OUTLIER, max(1 / _OUTLIER, seconds / self.seconds(rows, length)))
            low, high, part, _ = _place(self.rows, rows)
            left, right, along, _ = _place(self.lengths, length)
            corners: dict[tuple[int, int], float] = {}
            for (i, wide), (j, tall) in product(((low, 1 - part), (high, part)), ((left, 1 - along), (right, along))):
                corners[i, j] = corners.get((i, j), 0.0) + wide * tall
            whole = sum(weight * weight for weight in corners.values())  # so that values between points learn as fast
            self._grid = [[figure * ratio**_LEVEL_RATE for figure in line] for line in self._grid]
            for (i, j), weight in corners.items():
                self._grid[i][j] *= ratio ** (_SHAPE_RATE * weight / whole)
            # The newest observation is right: its neighbours are adjusted to it, not it to them.
            self._grid = _rising(self._grid) if ratio > 1 else _falling(self._grid)

    def measure(
        self,
        run: Callable[[int, int], None],
        *,
        budget: float,
        tokens: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Measure the grid, cheapest batches first, until the budget is spent. The rest follows in proportion.

        Args:
            run: Runs a batch of `rows` rows padded to `length`.
            budget: Seconds.
            tokens: Batches with more padded tokens are not measured, except the smallest batch.
            clock: Seconds, monotonic.
        """
        start = clock()
        known: dict[tuple[int, int], float] = {}
        run(self.rows[0], self.lengths[0])  # the first run pays for one-time allocations
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
        """Run two cheap batches and return whether they take about as long as predicted."""
        run(self.rows[0], self.lengths[0])
        ratios = []
        for rows, length in ((self.rows[0], self.lengths[0]), (self.rows[0], self.lengths[1 % len(self.lengths)])):
            ratios.append(_fastest(run, rows, length, clock, 1.0) / self.seconds(rows, length))
        return all(1 / _MISFIT < ratio < _MISFIT for ratio in ratios)

    def restore(self, grid: Sequence[Sequence[float]]) -> bool:
        """Take over stored values, grid[row][length]. Return False if they do not fit this grid."""
        shaped = len(grid) == len(self.rows) and all(len(line) == len(self.lengths) for line in grid)
        if not shaped or not all(0 < figure < float("inf") for line in grid for figure in line):
            return False
        with self._lock:
            self._grid = _rising([list(line) for line in grid])
            self.measured = self._stored = True
        return True

    def _merge(self, grid: list[list[float]]) -> None:
        """Take over a lane's values, or their geometric mean with those of another lane."""
        with self._lock:
            if self.measured and not self._stored:
                grid = [
                    [(a * b) ** 0.5 for a, b in zip(*lines, strict=True)]
                    for lines in zip(grid, self._grid, strict=True)
                ]
            self._grid = _falling(grid)  # disturbances only make a run slower
            self.measured, self._stored = True, False

    def _from_known(self, known: dict[tuple[int, int], float], i: int, j: int) -> float:
        """Return the seconds of a point, in proportion to the measured point nearest in size."""
        size = self.rows[i] * self.lengths[j]
        (a, b), seconds = max(
            known.items(), key=lambda item: ((item[0][1] == j), self.rows[item[0][0]] * self.lengths[item[0][1]])
        )
        return seconds * size / (self.rows[a] * self.lengths[b])


def _fastest(
    run: Callable[[int, int], None], rows: int, length: int, clock: Callable[[], float], budget: float
) -> float:
    """Return the least of a few timings: disturbances only make a run slower."""
    times: list[float] = []
    while len(times) < _REPEATS and (not times or sum(times) + min(times) < budget / 4):
        start = clock()
        run(rows, length)
        times.append(max(clock() - start, 1e-7))
    return min(times)


def _place(rungs: list[int], value: int) -> Place:
    """Return the points around a value, its share of the way between them, and its factor beyond the last point."""
    if value <= rungs[0]:
        return 0, 0, 0.0, 1.0
    last = len(rungs) - 1
    if value >= rungs[last]:
        return last, last, 0.0, value / rungs[last]
    low = bisect_right(rungs, value) - 1
    return low, low + 1, (value - rungs[low]) / (rungs[low + 1] - rungs[low]), 1.0


def _rising(grid: list[list[float]]) -> list[list[float]]:
    """Raise values to at least those of fewer or shorter rows."""
    for i, line in enumerate(grid):
        for j in range(len(line)):
            line[j] = max(line[j], line[j - 1] if j else 0.0, grid[i - 1][j] if i else 0.0)
    return grid


def _falling(grid: list[list[float]]) -> list[list[float]]:
    """Lower values to at most those of more or longer rows."""
    for i in reversed(range(len(grid))):
        line = grid[i]
        for j in reversed(range(len(line))):
            longer = line[j + 1] if j + 1 < len(line) else line[j]
            line[j] = min(line[j], longer, grid[i + 1][j] if i + 1 < len(grid) else line[j])
    return grid

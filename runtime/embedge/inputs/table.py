"""Rows of a table to arrays: the cells of a whole chunk at once; a bad row fails alone, with its column's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from embedge.batches.batch import Row
from embedge.bundle.part_specs import Column, TablePrepare
from embedge.config import RuntimeConfig
from embedge.errors import EmbedgeError, InvalidInput
from embedge.request import Request

__all__ = ["TableInput"]

RawCells = Mapping[str, object]

_LARGEST = float(np.finfo(np.float32).max)
_NAMED = 8  # so many names of a long list are said
_SHOWN = 40  # so many characters of a wrong name
_UNKNOWN = -1  # the code of what is no category


class TableInput:
    """Prepares the rows of one part. Safe to call from several threads.

    A cell that is None, NaN or not there is missing.
    """

    def __init__(self, spec: TablePrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        self.spec = spec
        self._columns = {column.name: column for column in spec.columns}
        self._numbers = [column for column in spec.columns if not column.categories]
        self._codes = {column.name: _codes(column) for column in spec.columns if column.categories}
        low = [-_LARGEST if column.minimum is None else column.minimum for column in self._numbers]
        high = [_LARGEST if column.maximum is None else column.maximum for column in self._numbers]
        self._low, self._high = (np.clip(bounds, -_LARGEST, _LARGEST) for bounds in (low, high))
        self._needed = np.array([not column.missing for column in spec.columns])
        # Arrays that hold numbers first and codes then, in the order of the columns.
        self._order = np.argsort(np.argsort([bool(column.categories) for column in spec.columns], kind="stable"))

    def check(self, request: Request) -> None:
        """Accept every request: no option of a request is about tables."""

    def prepare(self, contents: Sequence[object], request: Request) -> list[Row | EmbedgeError]:
        """Return each row's arrays, numbers, categories and observed `(columns,)` each, or its error."""
        found = [self._cells(content) for content in contents]
        rows = iter(self._rows([cells for cells in found if not isinstance(cells, EmbedgeError)]))
        return [cells if isinstance(cells, EmbedgeError) else next(rows) for cells in found]

    def probe(self) -> RawCells:
        """Return a row that has every cell."""
        return {column.name: _sample(column) for column in self.spec.columns}

    def size(self, row: Row) -> int:
        """Return 1: every row has the same shape."""
        return 1

    def estimate(self, contents: Sequence[object]) -> int:
        """Return how many rows there are."""
        return len(contents)

    def weight(self, content: object) -> int:
        """Return about how many bytes the row has."""
        return 16 * len(content) if isinstance(content, Mapping) else 16

    def _cells(self, row: object) -> RawCells | EmbedgeError:
        """Return the row if it is one and all its columns are known."""
        if not isinstance(row, Mapping):
            return InvalidInput(
                f"a row is needed here, a mapping of column to number or category, not {type(row).__name__}"
            )
        unknown = next((name for name in row if name not in self._columns), None)
        if unknown is not None:
            return InvalidInput(f"column {repr(unknown)[:_SHOWN]} is unknown; this part has: {_some(self._columns)}")
        return row

    def _rows(self, rows: Sequence[RawCells]) -> list[Row | EmbedgeError]:
        """Return each row's arrays, or the fault of its first bad cell."""
        if not rows:
            return []
        numbers = np.array([[_number(row.get(column.name)) for column in self._numbers] for row in rows])
        beyond = (numbers < self._low) | (numbers > self._high)
        codes = [[_code(known, row.get(name)) for name, known in self._codes.items()] for row in rows]
        categories = np.array(codes, dtype=np.int64)
        absent = categories == [len(known) - 1 for known in self._codes.values()]
        missing = np.concatenate([np.isnan(numbers), absent], axis=1)[:, self._order]
        bad = np.concatenate([beyond, categories == _UNKNOWN], axis=1)[:, self._order] | (missing & self._needed)
        kept = np.where(beyond | np.isnan(numbers), 0, numbers).astype(np.float32)
        arrays: dict[str, NDArray[Any]] = {"numbers": kept, "categories": categories, "observed": ~missing}
        faulty = bad.any(axis=1) | missing.all(axis=1)
        return [
            self._fault(row, bad[place])
            if faulty[place]
            else {name: arrays[role][place] for role, name in self.spec.inputs.items()}
            for place, row in enumerate(rows)
        ]

    def _fault(self, row: RawCells, bad: NDArray[np.bool_]) -> EmbedgeError:
        if not bad.any():
            return InvalidInput("every cell of the row is missing; leave the item out")
        column = self.spec.columns[int(bad.argmax())]
        return InvalidInput(f"column {column.name!r} {_words(column, row.get(column.name))}")


def _codes(column: Column) -> dict[object, int]:
    """Return the code of each category, and of None, which stands for a missing one, after them."""
    return {category: code for code, category in enumerate((*column.categories, None))}


def _code(known: dict[object, int], cell: object) -> int:
    if isinstance(cell, str):
        return known.get(cell, _UNKNOWN)
    return known[None] if _is_missing(cell) else _UNKNOWN


def _number(cell: object) -> float:
    """Return the cell as a float: NaN where it is missing, infinite where it is no number or too large for one."""
    if cell is None:
        return math.nan
    try:
        return float(cell) if _is_number(cell) else math.inf
    except OverflowError:
        return math.inf


def _is_number(cell: object) -> TypeGuard[float]:
    return isinstance(cell, (int, float, np.integer, np.floating)) and not isinstance(cell, bool)


def _is_missing(cell: object) -> bool:
    return cell is None or (_is_number(cell) and cell != cell)


def _words(column: Column, cell: object) -> str:
    """Return what is wrong with a cell."""
    if _is_missing(cell):
        return "is missing; this part needs it"
    kind = type(cell).__name__
    if column.categories:
        what = f"has no category {cell[:_SHOWN]!r}" if isinstance(cell, str) else f"needs a category, not {kind}"
        return f"{what}; it has: {_some(column.categories)}"
    if not _is_number(cell):
        return f"needs a number, not {kind}"
    low = "" if column.minimum is None else f" from {column.minimum:g}"
    high = "" if column.maximum is None else f" up to {column.maximum:g}"
    return f"is {_number(cell):g}; it takes finite numbers{low}{high}"


def _some(names: Collection[str]) -> str:
    """Return the names, or the first of many."""
    rest = len(names) - _NAMED
    return ", ".join(islice(names, _NAMED)) + (f", … ({rest:,} more)" if rest > 0 else "")


def _sample(column: Column) -> float | str:
    """Return a cell that the column takes."""
    if column.categories:
        return column.categories[0]
    low, high = column.minimum, column.maximum
    if low is None or high is None:
        return low if low is not None else min(1.0, high) if high is not None else 1.0
    return (low + high) / 2

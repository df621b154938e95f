"""Items to rows: every part of a tower prepared by its modality's module, and put together again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.batches.batch import Batch, Row
from embedge.bundle import Bundle
from embedge.bundle.manifest import Chain, Part, Tower
from embedge.bundle.part_specs import TensorPrepare
from embedge.config import RuntimeConfig
from embedge.errors import BundleError, EmbedgeError, InvalidInput, NotFound
from embedge.inputs import open_part
from embedge.inputs.base import PartInput
from embedge.inputs.match import assign
from embedge.request import Request

__all__ = ["ItemInput"]

# Items that are looked at to guess the length of all.
_SAMPLE = 64


class ItemInput:
    """Prepares the items of one tower. Safe to call from several threads.

    A part that an item comes without is empty: ragged arrays have length 0, so that their mask is 0; others are 0, and
    so is its presence, where the graph takes one.
    """

    def __init__(self, tower: Tower, open_file: Callable[[str], Path], config: RuntimeConfig, *, name: str) -> None:
        """Open the input of every part.

        Args:
            tower: The tower's record in a manifest; only its parts and its chain are used.
            open_file: Returns the path of a file that a part names, such as a tokenizer.
            config: Limits of what is accepted.
            name: The tower's name, for errors and probes.

        Raises:
            BundleError: A part cannot prepare its own probe, or a file is missing.
            Unavailable: A modality's library is missing.
        """
        self._tower = name
        self._parts = tower.parts
        self._inputs = {key: open_part(part.prepare, config, open_file) for key, part in self._parts.items()}
        self._present = {key: _presence(part, there=True) for key, part in self._parts.items()}
        self._chain = tower.chain
        lone = len(self._inputs) == 1 and not any(self._present.values()) and self._chain is None
        self._only = next(iter(self._inputs.values())) if lone else None
        # Whether one call of `prepare` uses all cores, as a tokenizer does.
        self.threaded = all(part.modality == "text" for part in self._parts.values())
        self._shared = _shared_symbols(self._parts)
        self._absent: dict[str, Row] = {}
        self._probe = self._prepare_probe()
        self._bytes = {name: _footprint(part, self._probe, self._inputs[name]) for name, part in self._parts.items()}
        self._absent = {name: _absent(part, self._probe) for name, part in self._parts.items()}

    @classmethod
    def of(cls, bundle: Bundle, name: str, config: RuntimeConfig) -> ItemInput:
        """Open the inputs of a bundle's tower. Raises as the constructor does."""
        return cls(bundle.manifest.towers[name], bundle.file, config, name=name)

    def check(self, request: Request) -> None:
        """Raise what is wrong with the request as a whole, before anything is prepared."""
        if request.prompt and all(part.modality != "text" for part in self._parts.values()):
            raise NotFound(f"prompt {request.prompt!r} is unknown; tower {self._tower!r} takes no text")
        for part in self._inputs.values():
            part.check(request)

    def prepare(self, items: Sequence[Any], request: Request) -> list[Row | EmbedgeError]:
        """Return each item's arrays by graph input, unpadded, or its error."""
        if self._only is not None and not any(isinstance(item, (Mapping, EmbedgeError)) for item in items):
            return self._only.prepare(items, request)
        found = {index: assign(item, self._parts) for index, item in enumerate(items)}
        errors = {index: each for index, each in found.items() if isinstance(each, EmbedgeError)}
        contents = {index: each for index, each in found.items() if not isinstance(each, EmbedgeError)}
        rows: dict[int, dict[str, NDArray[np.generic]]] = {index: {} for index in contents}
        for name, part in self._inputs.items():
            there = [index for index in rows if name in contents[index]]
            for index in rows.keys() - there:
                rows[index].update(self._absent[name])
            for index, row in zip(there, part.prepare([contents[i][name] for i in there], request), strict=True):
                if isinstance(row, EmbedgeError):
                    errors[index] = row if self._only else type(row)(f"part {name!r}: {row.message}")
                    del rows[index]
                else:
                    rows[index].update(row, **self._present[name])
        for index in rows if self._shared else ():
            if fault := self._disagreement(rows[index], contents[index]):
                errors[index] = fault
        if self._chain is not None:
            for index, row in rows.items():
                row.update(_order(self._chain, contents[index]))
        return [errors.get(index) or rows[index] for index in found]

    def probe(self) -> Batch:
        """Return a prepared item with all its parts, for self-tests and warm-up."""
        return Batch([self._tower], [self._probe], [self.length(self._probe)])

    def length(self, row: Row) -> int:
        """Return the length of a row in all its parts: tokens, specials included, or what its modality counts."""
        if self._only is not None:
            return self._only.size(row)
        return max(1, sum(part.size(row) for part in self._inputs.values()))

    def estimate(self, items: Sequence[Any]) -> tuple[int, int]:
        """Return about the sum of the items' lengths, and of their bytes once prepared, from the first few."""
        some = items[:_SAMPLE]
        contents: dict[str, Sequence[Any]] = dict.fromkeys(self._parts, some)
        if self._only is None or any(isinstance(item, Mapping) for item in some):
            sample = [assign(item, self._parts) for item in some]
            good = [each for each in sample if not isinstance(each, EmbedgeError)]
            contents = {name: [each[name] for each in good if name in each] for name in self._parts}
        length = size = 0
        for name, those in contents.items():
            units = self._inputs[name].estimate(those)
            fixed, each_unit = self._bytes[name]
            length += units
            size += len(those) * fixed + units * each_unit
        share = max(1, len(some))
        return length * len(items) // share, size * len(items) // share

    def weight(self, item: Any) -> int:
        """Return how much work it is to prepare the item, in bytes or characters."""
        if self._only is not None and not isinstance(item, Mapping):
            return self._only.weight(item)
        content = assign(item, self._parts)
        if isinstance(content, EmbedgeError):
            return 0
        return sum(self._inputs[name].weight(each) for name, each in content.items())

    def _prepare_probe(self) -> Row:
        content = {name: part.probe() for name, part in self._inputs.items()}
        (row,) = self.prepare([content], Request(items=(), truncate=True))
        if isinstance(row, EmbedgeError):
            raise BundleError(f"tower {self._tower!r} cannot prepare its own probe: {row}; export the bundle again")
        return row

    def _disagreement(self, row: Row, content: Mapping[str, Any]) -> EmbedgeError | None:
        """Return an error if the parts that are there differ along an axis that they share."""
        for symbol, places in self._shared.items():
            sizes = {part: row[name].shape[axis] for part, name, axis in places if part in content}
            if len(set(sizes.values())) > 1:
                told = ", ".join(f"{part!r} {size:,}" for part, size in sizes.items())
                return InvalidInput(f"the parts differ along {symbol!r}, which they share: {told}")
        return None


def _shared_symbols(parts: Mapping[str, Part]) -> dict[str, list[tuple[str, str, int]]]:
    """Return where axes of one name are that several tensors have: (part, graph input, axis) by symbol."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for name, part in parts.items():
        spec = part.prepare
        if isinstance(spec, TensorPrepare) and not spec.steps:
            for axis, size in enumerate(spec.shape):
                if isinstance(size, str):
                    found.setdefault(size, []).append((name, spec.inputs["values"], axis))
    return {symbol: places for symbol, places in found.items() if len(places) > 1}


def _footprint(part: Part, probe: Row, counts: PartInput) -> tuple[int, int]:
    """Return the bytes that a prepared part has whatever its length, and those of each unit of length."""
    fills = {name: fill for name, fill in part.prepare.fills().items() if fill.mask_of is None}
    fixed = sum(probe[name].nbytes for name, fill in fills.items() if not fill.ragged)
    ragged = sum(probe[name].nbytes for name, fill in fills.items() if fill.ragged)
    return fixed, -(-ragged // max(1, counts.size(probe)))


def _absent(part: Part, probe: Row) -> Row:
    """Return the arrays of a part that is not there."""
    fills = part.prepare.fills()
    prepared = {name: probe[name] for name, fill in fills.items() if fill.mask_of is None}
    empty = {name: array[:0] if fills[name].ragged else np.zeros_like(array) for name, array in prepared.items()}
    return {**empty, **_presence(part, there=False)}


def _order(chain: Chain, content: Mapping[str, Any]) -> Row:
    """Return which modules a row takes, in the order in which its item gave its parts."""
    order = np.full(len(chain.modules), -1, np.int64)
    numbers = {part: number for number, part in enumerate(chain.modules)}
    order[: len(content)] = [numbers[part] for part in content]
    return {chain.order: order}


def _presence(part: Part, *, there: bool) -> Row:
    """Return the array that tells a graph whether the part is there, if it takes one; `pad` gives it its dtype."""
    return {} if part.presence is None else {part.presence: np.array(there)}

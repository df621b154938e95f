"""Golden pairs: items of every tower with the original model's results, stored in the bundle."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge.arrays import Array
from embedge.bundle import Bundle
from embedge.errors import BundleError
from embedge.verify import contents

__all__ = ["Golden", "Pairs"]

# What NumPy, zipfile and msgspec raise for a damaged file: MemoryError for a size that cannot be, TypeError and
# AttributeError for an array that is no archive.
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    MemoryError,
    TypeError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    msgspec.DecodeError,
)
# Far above what export writes, and below what a damaged file could make us allocate.
_MOST_BYTES = 1 << 30
_INDEX = "index"


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Items of one tower with the original's results.

    Attributes:
        items: contents by part.
        outputs: one array per item, by output: dense `(dim,)`; multi_vector `(places, dim)`; sparse `(dim,)`, every
            weight; gaussian `(2, dim)`, mean and log-variance; codes `(dim,)` or `(places, dim)`, bits as 0 and 1;
            scores `(labels,)`.
    """

    items: Sequence[Mapping[str, Any]]
    outputs: Mapping[str, Sequence[Array]]

    def take(self, rows: Sequence[int]) -> Pairs:
        """Return these pairs only."""
        chosen = {name: [arrays[row] for row in rows] for name, arrays in self.outputs.items()}
        return Pairs([self.items[row] for row in rows], chosen)

    def label(self, row: int) -> str:
        """Return a few words that tell the item from others."""
        item = self.items[row]
        parts = [contents.label(content) for content in item.values()]
        return f"#{row} " + (parts[0] if len(parts) == 1 else " ".join(map("{}: {}".format, item, parts)))


class _GoldenTower(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The index of one tower. outputs: names of the values and, where rows are ragged, of the offsets."""

    items: list[dict[str, contents.PackedContent]]
    outputs: dict[str, tuple[str, str | None]]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """The pairs of every tower. Texts over the limit were cut."""

    towers: Mapping[str, Pairs]

    def to_bytes(self) -> bytes:
        """Return them as an .npz file without pickles: `index` is UTF-8 JSON as uint8, which names the other arrays."""
        arrays: dict[str, Array] = {}

        def keep(array: Array) -> str:
            name = f"a{len(arrays)}"
            arrays[name] = array
            return name

        index = {}
        for name, pairs in self.towers.items():
            items = [{part: contents.pack(each, keep) for part, each in item.items()} for item in pairs.items]
            index[name] = _GoldenTower(items, {output: _join(rows, keep) for output, rows in pairs.outputs.items()})
        arrays[_INDEX] = np.frombuffer(msgspec.json.encode(index), np.uint8)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        return buffer.getvalue()

    @classmethod
    def read(cls, bundle: Bundle) -> Golden:
        """Read a bundle's golden pairs.

        Raises:
            BundleError: they can't be read, or belong to other towers.
        """
        file = bundle.file(bundle.manifest.golden)
        try:
            arrays = _arrays(file)
            index = msgspec.json.decode(arrays.pop(_INDEX).tobytes(), type=dict[str, _GoldenTower])
            golden = cls({name: _pairs(tower, arrays) for name, tower in index.items()})
        except _UNREADABLE as error:
            raise BundleError(f"{file}: the golden pairs cannot be read: {error}; export the bundle again") from error
        for name, tower in bundle.manifest.towers.items():
            there = golden.towers.get(name)
            if there is None or not there.items or set(there.outputs) != set(tower.outputs):
                raise BundleError(f"{file}: the golden pairs are not those of tower {name!r}; export the bundle again")
        return golden


def _arrays(file: Path) -> dict[str, Array]:
    with zipfile.ZipFile(file) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
            raise ValueError(f"they would take more than {_MOST_BYTES:,} bytes")
    with np.load(file, allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}


def _join(rows: Sequence[Array], keep: Any) -> tuple[str, str | None]:
    """Keep rows of one shape stacked, others one after the other with their offsets."""
    if len({row.shape for row in rows}) == 1:
        return keep(np.stack(rows)), None
    offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
    return keep(np.concatenate(rows)), keep(offsets)


def _pairs(tower: _GoldenTower, arrays: Mapping[str, Array]) -> Pairs:
    items = [{part: contents.unpack(each, arrays) for part, each in item.items()} for item in tower.items]
    outputs = {
        name: _split(arrays[values], offsets and arrays[offsets]) for name, (values, offsets) in tower.outputs.items()
    }
    for name, rows in outputs.items():
        if len(rows) != len(items):
            raise ValueError(f"{len(items)} items but {len(rows)} results of {name!r}")
        if any(row.dtype.kind not in "fiu" for row in rows):
            raise ValueError(f"the results of {name!r} are no numbers")
    return Pairs(items, outputs)


def _split(values: Array, offsets: Any) -> list[Array]:
    if offsets is None:
        return list(values)
    ends = (
        offsets.dtype == np.int64
        and offsets.ndim == 1
        and len(offsets)
        and (offsets[0], offsets[-1]) == (0, len(values))
    )
    if not ends or np.any(np.diff(offsets) < 0):
        raise ValueError("the offsets of ragged results are none")
    return [values[low:high] for low, high in pairwise(offsets)]

"""Items to rows: which tower an item is for, and every part prepared by its modality's module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from embedge.batch import Row
from embedge.bundle import Bundle
from embedge.errors import BundleError, EmbedgeError, InvalidInput, NotFound
from embedge.inputs.text import TextInput
from embedge.manifest import Tower
from embedge.request import Item, Request

__all__ = ["ItemInput"]


class ItemInput:
    """Prepares the items of one tower. Safe to call from several threads."""

    def __init__(self, bundle: Bundle, tower: str, *, max_text_bytes: int) -> None:
        spec: Tower = bundle.manifest.towers[tower]
        if len(spec.parts) != 1:
            raise InvalidInput(f"tower {tower!r} takes {len(spec.parts)} parts; this embedge serves towers of one part")
        ((self.part, part),) = spec.parts.items()
        self.max_length = part.prepare.max_length
        self._ids = part.prepare.inputs["ids"]
        self._text = TextInput(part.prepare, bundle.file(part.prepare.tokenizer), max_bytes=max_text_bytes)

    def check(self, request: Request) -> None:
        """Raise what is wrong with the request as a whole, before anything is prepared."""
        self._text.prefix(request.prompt)

    def prepare(self, items: Sequence[Item], request: Request) -> list[Row | EmbedgeError]:
        """Return each item's arrays by graph input, or its error."""
        prefix = self._text.prefix(request.prompt)
        results: list[Row | EmbedgeError] = []
        parts = [self._only_part(item) for item in items]
        texts = [part for part in parts if not isinstance(part, EmbedgeError)]
        rows = iter(self._text.prepare(texts, prefix=prefix, truncate=request.truncate))
        for part in parts:
            results.append(part if isinstance(part, EmbedgeError) else next(rows))
        return results

    def probe(self) -> Row:
        """Return a prepared item, for self-tests and warm-up."""
        (row,) = self._text.prepare(["probe"], truncate=True)
        if isinstance(row, EmbedgeError):
            raise BundleError(f"the tokenizer cannot prepare a plain word: {row}; export the bundle again")
        return row

    def length(self, row: Row) -> int:
        """Return how many tokens a row has, specials included."""
        return len(row[self._ids])

    def estimate(self, items: Sequence[Item]) -> int:
        """Return about how many tokens the items have, from the first few: four bytes a token, and two specials."""
        sample = items[:64]
        known = [len(item) if isinstance(item, str) else 4 * self.max_length for item in sample]
        guess = sum(min(self.max_length, size // 4 + 2) for size in known)
        return guess * len(items) // max(1, len(sample))

    def _only_part(self, item: object) -> object:
        if not isinstance(item, Mapping):
            return item
        unknown = [name for name in item if name != self.part]
        if unknown:
            return NotFound(f"part {unknown[0]!r} is unknown; this tower takes: {self.part}")
        return item[self.part] if self.part in item else InvalidInput(f"part {self.part!r} is missing")

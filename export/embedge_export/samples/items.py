"""Built-in items for a tower's gate, combined from samples of its parts' modalities."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from embedge.bundle.manifest import Part, SetSpec
from embedge.bundle.part_specs import (
    AudioPrepare,
    ImagePrepare,
    Prepare,
    TablePrepare,
    TensorPrepare,
    TextPrepare,
    VectorPrepare,
    VideoPrepare,
)
from embedge.content import Audio, Image, Text, Video
from embedge_export.errors import ExportError
from embedge_export.samples import numbers

__all__ = ["items_of"]

# Media cost far more than texts, and a few are varied enough.
_MOST: dict[type, int] = {ImagePrepare: 48, AudioPrepare: 40, VideoPrepare: 16}
# Bounds the pieces of a set: the original embeds each of them alone.
_PIECES = 40


def items_of(
    parts: Mapping[str, Part],
    texts: Sequence[str],
    count: int,
    pieces: Callable[[str], Sequence[Any]] | None = None,
) -> list[dict[str, Any]]:
    """Return at most `count` items; optional parts are missing from some.

    Args:
        parts: The tower's parts.
        texts: A corpus.
        count: Maximum number of items.
        pieces: Returns items of a tower by its name, for parts that are sets.

    Raises:
        ExportError: A part's modality has no built-in samples.
    """
    count = min(count, *(_MOST.get(type(part.prepare), count) for part in parts.values()))
    if any(isinstance(part.prepare, TextPrepare) for part in parts.values()):
        count = min(count, len(texts))
    lengths: dict[str, list[int]] = {}
    contents = {
        name: _contents(part.prepare, texts, count, lengths)
        if part.set is None or pieces is None
        else _sets(part.set, pieces(part.set.tower), count)
        for name, part in parts.items()
    }
    return [_item(parts, contents, place) for place in range(count)]


def _item(parts: Mapping[str, Part], contents: Mapping[str, Sequence[Any]], place: int) -> dict[str, Any]:
    there = [name for at, (name, part) in enumerate(parts.items()) if not (part.optional and (place + at) % 3 == 0)]
    return {name: contents[name][place] for name in there or [list(parts)[place % len(parts)]]}


def _contents(prepare: Prepare, texts: Sequence[str], count: int, lengths: dict[str, list[int]]) -> Sequence[Any]:
    if isinstance(prepare, TextPrepare):
        return _texts(prepare, texts[:count])
    if isinstance(prepare, ImagePrepare):
        from embedge_export.samples.images import images

        return [Image(data) for data in images(count)]
    if isinstance(prepare, AudioPrepare):
        from embedge_export.samples.sounds import sounds

        return [Audio(data) for data in sounds(count)]
    if isinstance(prepare, VideoPrepare):
        from embedge_export.samples.videos import videos

        return [Video(data) for data in videos(count)]
    if isinstance(prepare, TensorPrepare):
        return numbers.arrays(prepare, count, lengths)
    if isinstance(prepare, TablePrepare):
        return numbers.table_rows(prepare, count)
    if isinstance(prepare, VectorPrepare):
        return numbers.vectors(prepare, count)
    raise ExportError(f"parts of {type(prepare).__name__} have no built-in samples; set samples in the recipe")


def _sets(spec: SetSpec, pieces: Sequence[Any], count: int) -> list[list[Any]]:
    """Return sets of very different sizes, 1 to 40 pieces, in random order."""
    sizes = np.geomspace(1, min(spec.max_pieces, _PIECES), count).round().astype(int)
    sizes = np.random.default_rng(0).permutation(sizes)
    return [[pieces[(place + at) % len(pieces)] for at in range(size)] for place, size in enumerate(sizes)]


def _texts(prepare: TextPrepare, texts: Sequence[str]) -> Sequence[Any]:
    """Return texts, some with a pair, an instruction or a language if the part takes them."""
    if not (prepare.pairs or prepare.instruction is not None or prepare.languages):
        return texts
    languages = [*prepare.languages] if prepare.default_language is None else [None, *prepare.languages]
    return [
        Text(
            text,
            pair=texts[-1 - place] if prepare.pairs and place % 2 else None,
            instruction="Find what says the same" if prepare.instruction is not None and place % 3 == 0 else None,
            language=languages[place % len(languages)] if prepare.languages else None,
        )
        for place, text in enumerate(texts)
    ]

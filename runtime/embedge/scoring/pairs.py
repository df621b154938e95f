"""Pairs of a query and a document: choose the tower that scores them, and convert them to its items.

A tower scores pairs if it has an output of kind scores, and takes one text part with `pairs`, or two parts, the query
first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Tower
from embedge.bundle.output_specs import ScoresOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.content import Content, Text
from embedge.errors import EmbedgeError, InvalidInput, NotFound
from embedge.outputs import Scores
from embedge.request import Item, Reply, Request, raise_item_errors

__all__ = ["Scored", "Side", "choose_scorer", "listed", "pair_outputs", "pairs", "scored", "to_score"]

Side = Content | None
"""One side of a pair. None, a missing side, fails this pair alone."""

Scored = NDArray[np.float32] | Scores
"""The score of each pair, `(n,)` float32; of a tower with several labels, `Scores`."""

_SIDES = ("query", "document")


def pairs(queries: Side | Sequence[Side], documents: Sequence[Side]) -> list[Item]:
    """Return pairs as items with the parts `query` and `document`.

    Args:
        queries: One query for all documents, or a list with one for each.
        documents: The documents.

    Raises:
        InvalidInput: The lists differ in length, or `documents` isn't a list.
    """
    second = listed(documents, "documents")
    if isinstance(queries, (list, tuple)) and len(queries) != len(second):
        raise InvalidInput(
            f"{len(queries):,} queries and {len(second):,} documents make no pairs; give one query, or a list with one "
            "for each document"
        )
    first = queries if isinstance(queries, (list, tuple)) else repeat(queries, len(second))
    return [_given(pair) for pair in zip(first, second, strict=True)]


def listed(sides: Sequence[Side], what: str) -> list[Side]:
    """Return sides as a list. Raises InvalidInput for a single side."""
    if isinstance(sides, (str, bytes, Mapping)) or not isinstance(sides, Iterable):
        raise InvalidInput(f"{what} must be a list; put one alone into a list")
    return list(sides)


def _given(pair: tuple[Any, Any]) -> Item:
    """Return the sides by name, without a missing one."""
    return {side: content for side, content in zip(_SIDES, pair, strict=True) if content is not None}


def choose_scorer(towers: Mapping[str, Tower]) -> str:
    """Return the name of the only tower that scores pairs. Raises NotFound."""
    found = [name for name, tower in towers.items() if pair_outputs(tower)]
    if not found:
        raise NotFound(f"no tower scores pairs of a query and a document; there are: {', '.join(towers)}")
    if len(found) > 1:
        raise NotFound(f"a tower must be named; these score pairs: {', '.join(found)}")
    return found[0]


def to_score(request: Request, name: str, tower: Tower) -> Request:
    """Convert a request for pairs to a request for the tower `name`. Raises InvalidInput."""
    known = pair_outputs(tower)
    if not known:
        raise InvalidInput(f"tower {name!r} scores no pairs; its outputs are: {', '.join(tower.outputs)}")
    if other := [output for output in request.outputs if output in tower.outputs and output not in known]:
        raise InvalidInput(f"output {other[0]!r} is no score; tower {name!r} scores pairs by: {', '.join(known)}")
    items = [_item(pair, tower) for pair in request.items]
    # The preparer reports errors among the items.
    return replace(request, items=cast("list[Item]", items), tower=name, outputs=request.outputs or known[:1])


def scored(reply: Reply) -> Scored:
    """Return a reply's scores, `(n,)` float32 or `Scores`. Raises the error of the first bad pair."""
    raise_item_errors(reply.errors, len(reply.tokens))
    scores = cast("Scores", next(iter(reply.outputs.values())))
    return scores.values[:, 0] if len(scores.labels) == 1 else scores


def pair_outputs(tower: Tower) -> tuple[str, ...]:
    """Return the names of the tower's outputs that score pairs; none if it takes no pairs."""
    return _score_names(tower) if _takes_pairs(tower) else ()


def _takes_pairs(tower: Tower) -> bool:
    specs = [part.prepare for part in tower.parts.values()]
    return len(specs) == 2 or (len(specs) == 1 and isinstance(specs[0], TextPrepare) and specs[0].pairs)


def _score_names(tower: Tower) -> tuple[str, ...]:
    return tuple(name for name, output in tower.outputs.items() if isinstance(output, ScoresOutput))


def _item(pair: Any, tower: Tower) -> Item | EmbedgeError:
    """Return the tower's item for a pair, or the pair's error."""
    if isinstance(pair, EmbedgeError):
        return pair
    if not isinstance(pair, Mapping) or not set(pair) <= set(_SIDES):
        return InvalidInput("a pair has the parts 'query' and 'document', and no other")
    for side in _SIDES:
        if side not in pair:
            return InvalidInput(f"the pair has no {side}; a score needs both sides")
    query, document = (pair[side] for side in _SIDES)
    if len(tower.parts) == 2:
        return dict(zip(tower.parts, (query, document), strict=True))
    plain = document.text if isinstance(document, Text) and document == Text(document.text) else document
    return replace(query, pair=plain) if isinstance(query, Text) else Text(query, pair=plain)

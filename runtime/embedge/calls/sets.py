"""Items with a part that is a set: another tower embeds its pieces, and their vectors replace the set.

The pieces of all items of a request form a separate call. They share batches with other calls to their tower, and yield
to small calls as any large call does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Manifest, SetSpec, Tower
from embedge.errors import EmbedgeError, InvalidInput, NotFound
from embedge.inputs.match import assign
from embedge.outputs import Vectors
from embedge.outputs.ragged import offsets_of
from embedge.request import Item, Reply, Request

__all__ = ["Sets", "count_pieces", "pieces_of", "set_part", "towers"]


def set_part(tower: Tower) -> str | None:
    """Return the name of the tower's part that is a set, or None."""
    return next((name for name, part in tower.parts.items() if part.set is not None), None)


def pieces_of(tower: Tower) -> SetSpec | None:
    """Return how the pieces of the tower's set are embedded, or None."""
    name = set_part(tower)
    return None if name is None else tower.parts[name].set


def count_pieces(items: Sequence[Any], name: str) -> int:
    """Return how many pieces the items have in the part `name`. A value that is not a set counts as one."""
    contents = (item.get(name, ()) if isinstance(item, Mapping) else item for item in items)
    return sum(len(each) if isinstance(each, (list, tuple, np.ndarray)) else 1 for each in contents)


class Sets:
    """The sets of one request, for a tower that takes a set."""

    def __init__(self, request: Request, tower: Tower) -> None:
        """Collect the pieces. An item with a bad set becomes an error.

        Args:
            request: The request.
            tower: The tower that serves it.
        """
        self._request, self._parts = request, tower.parts
        self._name = cast("str", set_part(tower))
        self._spec = cast("SetSpec", pieces_of(tower))
        self._items = [self._checked(assign(item, self._parts)) for item in request.items]
        pieces = [() if isinstance(item, EmbedgeError) else item.get(self._name, ()) for item in self._items]
        self._pieces: list[Item] = [piece for each in pieces for piece in each]
        self._counts = np.array([len(each) for each in pieces], np.int64)

    def request(self) -> Request:
        """Return the request that embeds the pieces of all items, in order."""
        asked = self._request
        return Request(
            items=self._pieces,
            tower=self._spec.tower,
            outputs=(self._spec.output,),
            prompt=self._spec.prompt,
            truncate=asked.truncate,
            deadline=asked.deadline,
            priority=asked.priority,
        )

    def gathered(self, reply: Reply) -> list[Any]:
        """Return the request's items with vectors in place of pieces.

        Args:
            reply: The reply to `request`.

        Returns:
            One item or error for each item of the request: an item with a bad piece becomes that error.
        """
        offsets = offsets_of(self._counts)
        vectors = cast("Vectors", reply.outputs[self._spec.output]).values
        items: list[Any] = list(self._items)
        for index, values in zip(np.flatnonzero(self._counts).tolist(), self._by_item(vectors, offsets), strict=True):
            items[index] = self._with(items[index], values)
        for place in sorted(reply.errors, reverse=True):  # the first bad piece of an item is reported
            index = int(np.searchsorted(offsets, place, side="right")) - 1
            error = reply.errors[place]
            items[index] = self._error(type(error), f"piece {place - offsets[index]}: {error.message}")
        return items

    def _by_item(self, vectors: NDArray[Any], offsets: NDArray[np.int64]) -> Sequence[NDArray[Any]]:
        """Return for each item that has pieces (pieces, dim), or (dim,) where they are pooled."""
        there = self._counts > 0
        if self._spec.pool is None or not there.any():
            return [vectors[start:end] for start, end in zip(offsets[:-1][there], offsets[1:][there], strict=True)]
        starts = offsets[:-1][there]
        if self._spec.pool == "max":
            return list(np.maximum.reduceat(vectors, starts, axis=0))
        sums = np.add.reduceat(vectors, starts, axis=0, dtype=np.float64)
        return list((sums / self._counts[there, None]).astype(np.float32))

    def _with(self, item: Mapping[str, Any], values: NDArray[Any]) -> Any:
        return values if len(self._parts) == 1 else {**item, self._name: values}

    def _checked(self, item: Mapping[str, Any] | EmbedgeError) -> Mapping[str, Any] | EmbedgeError:
        """Return the item, or the error of its set."""
        if isinstance(item, EmbedgeError) or self._name not in item:
            return item
        pieces = item[self._name]
        if isinstance(pieces, np.ndarray) and pieces.ndim:
            pieces = list(pieces)
        if not isinstance(pieces, (list, tuple)):
            return self._error(InvalidInput, f"expected a list of pieces, not {type(pieces).__name__}")
        if not pieces:
            return self._error(InvalidInput, "the set is empty; give at least one piece, or leave the item out")
        if len(pieces) > self._spec.max_pieces:
            return self._error(
                InvalidInput,
                f"the set has {len(pieces):,} pieces, more than {self._spec.max_pieces:,}; choose some, or merge "
                "neighbours",
            )
        return {**item, self._name: pieces}

    def _error(self, kind: type[EmbedgeError], message: str) -> EmbedgeError:
        return kind(message if len(self._parts) == 1 else f"part {self._name!r}: {message}")


def towers(manifest: Manifest, names: Sequence[str] | None) -> dict[str, Tower]:
    """Return the towers to load, with those that embed pieces for them.

    Args:
        manifest: The model's manifest.
        names: The requested towers; None for all.

    Raises:
        NotFound: A name is unknown.
    """
    for name in names or ():
        if name not in manifest.towers:
            raise NotFound(f"tower {name!r} is unknown; {manifest.name!r} has: {', '.join(manifest.towers)}")
    wanted = set(manifest.towers if names is None else names)
    while pieces := {spec.tower for name in wanted if (spec := pieces_of(manifest.towers[name]))} - wanted:
        wanted |= pieces
    return {name: tower for name, tower in manifest.towers.items() if name in wanted}

"""Which parts of a tower an item fills, and so which tower it is for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from embedge.bundle.manifest import Part, Tower
from embedge.content import Audio, Image, Text, Vector, Video, modality
from embedge.errors import EmbedgeError, InvalidInput, NotFound

__all__ = ["assign", "choose"]

_MODALITIES: dict[type, str] = {
    str: "text",
    Text: "text",
    Image: "image",
    Audio: "audio",
    Video: "video",
    Vector: "vector",
    np.ndarray: "tensor",
    list: "set",
    tuple: "set",
}

PartKind = str | frozenset[str]
"""What there is to see of an item: its modality, or the names of its parts."""


def assign(item: Any, parts: Mapping[str, Part]) -> Mapping[str, Any] | EmbedgeError:
    """Return the item's contents by part, or what is wrong with it as a whole.

    An item that came damaged over the wire is an error already.
    """
    if isinstance(item, EmbedgeError):
        return item
    if not isinstance(item, Mapping):
        place = _place(item, parts)
        if place is None:
            return InvalidInput(f"{_say(_kind(item))} fits no single part of this tower; name them: {_example(parts)}")
        contents: Mapping[str, Any] = {place: item}
    else:
        contents = item
    for name in contents:
        if name not in parts:
            return NotFound(f"part {name!r} is unknown; this tower takes: {', '.join(parts)}")
    for name, part in parts.items():
        if name not in contents and not part.optional:
            return InvalidInput(f"part {name!r} is missing")
    return contents or InvalidInput(f"the item has no part; give some of {', '.join(parts)}")


def choose(items: Sequence[Any], towers: Mapping[str, Tower]) -> str:
    """Return the only tower that takes the items. Raises InvalidInput, NotFound.

    An item that no tower takes does not count, unless there is no other: it fails alone where it is prepared.
    """
    if len(towers) == 1:
        return next(iter(towers))
    first: dict[PartKind, int] = {}
    for index, item in enumerate(items):
        first.setdefault(_kind(item), index)
    fits = {kind: [name for name, tower in towers.items() if _fits(kind, tower.parts)] for kind in first}
    taken = {kind: names for kind, names in fits.items() if names}
    if fits and not taken:
        for item in items:
            if isinstance(item, EmbedgeError):
                raise item
        raise NotFound(f"no tower takes {_say(next(iter(fits)))}{_hint(items[0])}; there are: {_towers(towers)}")
    common = [name for name in towers if all(name in names for names in taken.values())]
    if len(common) == 1:
        return common[0]
    if common:
        raise NotFound(f"a tower must be named; these take such items: {', '.join(common)}")
    told = ", ".join(
        f"item {first[kind]} ({_say(kind)}) {' or '.join(map(repr, names))}" for kind, names in taken.items()
    )
    raise InvalidInput(f"the items need different towers: {told}; send them in a call for each tower")


def _kind(item: Any) -> PartKind:
    if isinstance(item, Mapping):
        return frozenset(map(str, item))
    return next((_MODALITIES[base] for base in type(item).__mro__ if base in _MODALITIES), "") or modality(item)


def _sort(part: Part) -> str:
    return part.modality if part.set is None else "set"


def _place(item: Any, parts: Mapping[str, Part]) -> str | None:
    """Return the part that an item without names is: the only one, or the only one of its modality."""
    if len(parts) == 1:
        return next(iter(parts))
    kind = _kind(item)
    places = [name for name, part in parts.items() if _sort(part) == kind]
    return places[0] if len(places) == 1 else None


def _fits(kind: PartKind, parts: Mapping[str, Part]) -> bool:
    required = {name for name, part in parts.items() if not part.optional}
    if isinstance(kind, frozenset):
        return required <= kind <= set(parts)
    places = [name for name, part in parts.items() if _sort(part) == kind]
    return len(places) == 1 and required <= set(places)


def _say(kind: PartKind) -> str:
    if isinstance(kind, frozenset):
        return f"the parts {', '.join(sorted(kind)) or '(none)'}"
    article = "an" if kind[:1] in "aio" else "a"
    return f"{article} {kind}" if kind else "such a value"


def _hint(item: Any) -> str:
    """Return how to say what an item is, if it looks like a medium in no wrapper."""
    if isinstance(item, (os.PathLike, bytes)):
        name = type(item).__name__
        return (
            f" as {name}; say what it holds: embedge.Image(…), embedge.Audio(…) or embedge.Video(…); "
            "for a text file, give path.read_text()"
        )
    if isinstance(item, np.ndarray) and item.dtype == np.uint8:
        return "; if this is a picture, say embedge.Image(…)"
    return ""


def _example(parts: Mapping[str, Part]) -> str:
    return "{" + ", ".join(f"{name!r}: …" for name in parts) + "}"


def _towers(towers: Mapping[str, Tower]) -> str:
    return ", ".join(f"{name} ({', '.join(tower.parts)})" for name, tower in towers.items())

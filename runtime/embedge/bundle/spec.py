"""Shared ground of manifest records: strict parsing, bounded sizes, and how rows fill a batch."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

__all__ = ["Duration", "Fill", "Size", "Strict", "Tokens"]

# Far above any real model, and below what a damaged number could make the runtime allocate.
Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
Duration = Annotated[float, msgspec.Meta(gt=0, le=86400)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every manifest record: immutable, unknown keys refused."""


class Fill(NamedTuple):
    """How a graph input is filled from rows: stacked, or padded to the longest along the first axis (`ragged`).

    pad: the value beside a row's end, before its begin where `left`. width: pad to this many, not to the longest.
    most: places that a row has at most; None: as many as it likes.
    mask_of: this input is made, not prepared: 1 where that other input has a row's own values, 0 where it is padded.
    """

    ragged: bool = False
    pad: float = 0
    left: bool = False
    width: int | None = None
    most: int | None = None
    mask_of: str | None = None

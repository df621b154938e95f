"""The whole contract of a modality, on one screen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from embedge.batches.batch import Row
from embedge.errors import EmbedgeError
from embedge.request import Request

__all__ = ["PartInput"]


class PartInput(Protocol):
    """Prepares the contents of one part of a tower. Safe to call from several threads.

    Made as `(spec, config, file)`, where `file` finds a file of the bundle by name.
    """

    def check(self, request: Request) -> None:
        """Raise what is wrong with the request as a whole, e.g. an unknown prompt."""
        ...

    def prepare(self, contents: Sequence[Any], request: Request) -> list[Row | EmbedgeError]:
        """Return each content's arrays by graph input, in the spec's shapes and without padding, or its error.

        Contents are whatever a caller gave: one that is of no use here has an InvalidInput of its own.
        """
        ...

    def probe(self) -> object:
        """Return the smallest sensible content; warm-up makes longer rows of it, never shorter ones."""
        ...

    def size(self, row: Row) -> int:
        """Return the length of a prepared row as cost tables count it: tokens, frames, units; 1 if it cannot vary."""
        ...

    def estimate(self, contents: Sequence[Any]) -> int:
        """Return about the sum of the contents' sizes, without decoding anything."""
        ...

    def weight(self, content: Any) -> int:
        """Return a content's bytes or characters, or what is as much work: large calls are cut into chunks by it."""
        ...

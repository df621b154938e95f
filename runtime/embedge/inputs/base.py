"""The contract of a modality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from embedge.batches.batch import Row
from embedge.errors import EmbedgeError
from embedge.request import Request

__all__ = ["PartInput"]


class PartInput(Protocol):
    """Prepares the contents of one part of a tower. Safe to call from several threads.

    Constructed as `(spec, config, file)`; `file` finds a file of the bundle by name.
    """

    def check(self, request: Request) -> None:
        """Raise an error if the request as a whole doesn't fit, for example an unknown prompt."""
        ...

    def prepare(self, contents: Sequence[Any], request: Request) -> list[Row | EmbedgeError]:
        """Prepare contents, each on its own.

        Args:
            contents: whatever the caller passed; unusable ones get an InvalidInput.
            request: the request the contents belong to.

        Returns:
            For each content its arrays by graph input, unpadded and in the shapes of the spec's `fills`, or its error.
        """
        ...

    def probe(self) -> object:
        """Return the smallest sensible content. Warm-up makes longer rows from it, never shorter ones."""
        ...

    def size(self, row: Row) -> int:
        """Return the length of a prepared row as cost tables count it: tokens, frames or units; 1 if fixed."""
        ...

    def estimate(self, contents: Sequence[Any]) -> int:
        """Estimate the sum of the contents' sizes without decoding them."""
        ...

    def weight(self, content: Any) -> int:
        """Return a content's bytes or characters, or equivalent work. Large calls are split into chunks by it."""
        ...

"""Request options of our targets."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from embedge.request import Reply, Request
from embedge_bench.targets.base import TargetReply

__all__ = ["Ask", "answer"]


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of a target's address; see `embedge.request.Request`. Texts over the model's limit are cut."""

    tower: str | None = None
    dim: int | None = None
    prompt: str | None = None

    def request(self, texts: Sequence[str], timeout: float | None) -> Request:
        """Return the request for these texts."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return Request(
            items=texts, tower=self.tower, dim=self.dim, prompt=self.prompt, truncate=True, deadline=deadline
        )


def answer(reply: Reply) -> TargetReply:
    """Return the vectors of a reply, (n, dim). Raises its first item error, or InvalidInput for another kind."""
    return TargetReply(reply.vectors, int(np.sum(reply.tokens)))

"""What labels made ready do: scores for the vectors of items in their space.

An item's logit for a label is scale * cosine + bias, with the space's scale and bias; its score is the softmax of the
logits over the labels, or the sigmoid of each.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.manifest import Space
from embedge.bundle.records import ScoreFunction
from embedge.outputs import Scores, Vectors
from embedge.request import Reply, Request, raise_item_errors

__all__ = ["Classifier", "ScoreMatrix", "unit"]

ScoreMatrix = NDArray[np.float64]

# Logits worked on at a time.
_LOGITS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """Labels made ready for the items of a tower, whose `output` is in their space.

    vectors: (labels, dim) float64, of length 1. top: how many labels an item gets, best first; None: all, in
    their order.
    """

    labels: tuple[str, ...]
    vectors: ScoreMatrix
    space: Space
    scores: ScoreFunction
    tower: str
    output: str
    top: int | None = None

    def size(self, items: int) -> int:
        """Return how many bytes the scores of so many items have."""
        if self.top is None:
            return items * len(self.labels) * 4
        return items * min(self.top, len(self.labels)) * 8  # a number and a place

    def asked(self, request: Request) -> Request:
        """Return the request that gets the vectors to score."""
        return replace(request, tower=self.tower, outputs=(self.output,), dim=None, dtype="float32", pool=None)

    def scored(self, reply: Reply) -> Reply:
        """Return the reply to what was `asked`, with `scores` as its only output; rows of failed items are 0."""
        scores = self.score(cast("Vectors", reply.outputs[self.output]).values)
        if reply.errors:
            scores.values[list(reply.errors)] = 0
        return replace(reply, outputs={"scores": scores})

    def result(self, reply: Reply) -> Scores:
        """Return the scores of a reply to what was `asked`. Raises the error of the first bad item."""
        raise_item_errors(reply.errors, len(reply.tokens))
        return self.score(cast("Vectors", reply.outputs[self.output]).values)

    def score(self, rows: NDArray[Any]) -> Scores:
        """Return the scores of vectors (n, dim): float32, worked out in float64, so that no row sways another's."""
        step = max(1, _LOGITS // len(self.labels))
        blocks = [rows[start : start + step] for start in range(0, max(1, len(rows)), step)]
        scored = [Scores(self._probabilities(block), self.labels) for block in blocks]
        first, *rest = scored if self.top is None else [block.best(self.top) for block in scored]
        return first.join(*rest)

    def _probabilities(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        logits = self.space.scale * (unit(rows) @ self.vectors.T) + self.space.bias
        if self.scores == "sigmoid":
            # 1 / (1 + exp(-x)), without overflow and exact to the last digits where it is tiny.
            return np.exp(-np.logaddexp(0, -logits)).astype(np.float32)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: NDArray[np.float32] = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares


def unit(rows: NDArray[Any]) -> ScoreMatrix:
    """Return rows scaled to length 1; a zero row stays zero."""
    doubles = rows.astype(np.float64)
    norms = np.linalg.norm(doubles, axis=1, keepdims=True)
    np.divide(doubles, norms, out=doubles, where=norms > 0)
    return doubles

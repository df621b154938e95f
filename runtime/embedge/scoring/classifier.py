"""Score the vectors of items against the vectors of labels.

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

# Logits computed at a time.
_LOGITS = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """Embedded labels, ready for the items of one tower.

    Attributes:
        labels: The labels.
        vectors: `(labels, dim)` float64 unit vectors.
        space: The space of the vectors, with the scale and bias of its logits.
        scores: Whether scores are a softmax over the labels, or the sigmoid of each.
        tower: The tower that embeds the items.
        output: Its output in the space of the labels.
        top: How many labels to return for each item, best first. None returns all, in order.
    """

    labels: tuple[str, ...]
    vectors: ScoreMatrix
    space: Space
    scores: ScoreFunction
    tower: str
    output: str
    top: int | None = None

    def size(self, items: int) -> int:
        """Return the size of the scores of `items` items, in bytes."""
        if self.top is None:
            return items * len(self.labels) * 4
        return items * min(self.top, len(self.labels)) * 8  # a score and an index

    def asked(self, request: Request) -> Request:
        """Return the request for the vectors to score."""
        return replace(request, tower=self.tower, outputs=(self.output,), dim=None, dtype="float32", pool=None)

    def scored(self, reply: Reply) -> Reply:
        """Return a reply to the `asked` request with `scores` as its only output. Rows of failed items are 0."""
        scores = self.score(cast("Vectors", reply.outputs[self.output]).values)
        if reply.errors:
            scores.values[list(reply.errors)] = 0
        return replace(reply, outputs={"scores": scores})

    def result(self, reply: Reply) -> Scores:
        """Return the scores of a reply to the `asked` request. Raises the error of the first bad item."""
        raise_item_errors(reply.errors, len(reply.tokens))
        return self.score(cast("Vectors", reply.outputs[self.output]).values)

    def score(self, rows: NDArray[Any]) -> Scores:
        """Score vectors.

        Args:
            rows: `(n, dim)` floats.

        Returns:
            `(n, labels)` or `(n, top)` float32, computed in float64 so that a row's scores don't depend on the batch.
        """
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
    """Return rows `(n, dim)` scaled to length 1, float64. A zero row stays zero."""
    doubles = rows.astype(np.float64)
    norms = np.linalg.norm(doubles, axis=1, keepdims=True)
    np.divide(doubles, norms, out=doubles, where=norms > 0)
    return doubles

"""Does a search find the same with our vectors as with the original's?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["compare", "scores"]


def scores(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return all cosines between rows; a row is never its own hit."""
    wide = vectors.astype(np.float64)
    wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    scores = np.asarray(wide @ wide.T)
    np.fill_diagonal(scores, -np.inf)
    return scores


def compare(
    theirs: NDArray[np.float64], ours: NDArray[np.float64], *, top: int = 10, deep: int = 50, tie: float = 1e-5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return for each query the share of the original's top 10 that ours has, and Spearman's rank agreement.

    Scores that the original tells apart by less than `tie` count as equal: which of them comes first is chance.
    Ranks are compared over the original's best 50.
    """
    recalls, agreements = np.ones(len(theirs)), np.ones(len(theirs))
    deep = min(deep, len(theirs) - 1)
    for query, (original, found) in enumerate(zip(theirs, ours, strict=True)):
        best = np.argsort(-original, kind="stable")[:deep]
        hits = np.argsort(-found, kind="stable")[:top]
        recalls[query] = (original[hits] >= original[best[top - 1]] - tie).mean()
        rounded = np.round(original[best] / tie), np.round(found[best] / tie)
        agreements[query] = _correlation(_ranks(rounded[0]), _ranks(rounded[1]))
    return recalls, agreements


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ranks, equal values sharing their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place])


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return 1.0 if scale == 0 else float(a @ b) / scale

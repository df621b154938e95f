"""Compare search results over our vectors with those over the original's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedge.arrays import Array
from embedge.bundle.output_specs import (
    CodesOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)

__all__ = ["compare", "scores"]

# A matrix of scores takes this many items of many vectors at most; beside them the rest is quick.
_MANY = 64


def scores(
    output: Output, queries: Sequence[Array], items: Sequence[Array] | None = None
) -> NDArray[np.float64] | None:
    """Score each query against each item.

    Cosine for dense and gaussian (by mean), dot product for sparse, matching entries for codes; for multi_vector the
    sum over the query's vectors of the highest cosine (Khattab and Zaharia, 2020, arXiv:2004.12832).

    Args:
        output: spec of the output.
        queries: rows shaped as in `Pairs.outputs`.
        items: rows to search; None searches the queries themselves, where a row never matches itself.

    Returns:
        Scores `(queries, items)`, or None for kinds without search.
    """
    if isinstance(output, ScoresOutput) or (isinstance(output, CodesOutput) and output.keep is not None):
        return None
    against = queries if items is None else items
    if isinstance(output, MultiVectorOutput):
        found = _max_sim(queries[:_MANY], against[:_MANY])
    elif isinstance(output, CodesOutput):
        codes = np.stack(against)
        found = np.stack([(codes == query).sum(axis=1) - float(codes.shape[1]) for query in queries])
    else:
        found = _matrix(output, queries) @ _matrix(output, against).T
    if items is None:
        np.fill_diagonal(found, -np.inf)
    return found


def _matrix(output: Output, rows: Sequence[Array]) -> NDArray[np.float64]:
    """Return rows whose dot products are the scores."""
    wide = np.stack([row[0] if isinstance(output, GaussianOutput) else row for row in rows]).astype(np.float64)
    return wide if isinstance(output, SparseOutput) else _unit(wide)


def _max_sim(queries: Sequence[Array], items: Sequence[Array]) -> NDArray[np.float64]:
    found = np.zeros((len(queries), len(items)))
    units = [_unit(item.astype(np.float64)) for item in items]
    for row, query in enumerate(queries):
        wide = _unit(query.astype(np.float64))
        found[row] = [(wide @ item.T).max(axis=1, initial=-1).sum() for item in units]
    return found


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12))


def compare(
    theirs: NDArray[np.float64], ours: NDArray[np.float64], *, top: int = 10, deep: int = 50, tie: float = 1e-5
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare two searches by recall@10 and rank agreement.

    Scores that the original separates by less than `tie` count as equal. Ranks cover the original's best 50.

    Args:
        theirs: scores of the original, `(queries, items)`.
        ours: scores of the bundle, `(queries, items)`.
        top: hits for recall.
        deep: hits for rank agreement.
        tie: smallest difference that counts.

    Returns:
        For each query, `(queries,)` each: the share of the original's top hits, and Spearman's rank correlation.
    """
    recalls, agreements = np.ones(len(theirs)), np.ones(len(theirs))
    # A row that is never its own hit has the lowest score there is, and is no part of any ranking.
    deep = min(deep, theirs.shape[1] - 1)
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

"""Compare one item's result with the original's, by kind of output, in float64: 1 - cosine is far below float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from embedge.arrays import Array
from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.outputs import Codes, Gaussian, Result, Scores, Sparse, Vectors
from embedge.outputs.leading import leading

__all__ = ["LOWER", "SHARES", "compare", "rows"]

Measures = dict[str, float]

LOWER = ("max_abs",)  # figures that end so are upper limits, all others lower ones
SHARES = ("counts", "support", "equal")  # measures that are averaged over items; of all others the worst one counts

_TINY = 1e-12


def compare(output: Output, ours: Array, theirs: Array) -> Measures:
    """Return how close one item's result is to the original's; both shaped as in `Pairs.outputs`."""
    return _KINDS[type(output)](output, ours, theirs)


def rows(result: Result) -> list[Array]:
    """Split a result into one array per item, shaped as in `Pairs.outputs`."""
    if isinstance(result, Sparse):
        return [_spread(result.size, *result[row]) for row in range(len(result))]
    if isinstance(result, Gaussian):
        return list(np.stack([result.mean, result.log_variance], axis=1))
    if isinstance(result, (Vectors, Scores)):
        return list(result.values)
    if isinstance(result, Codes) and result.form == "bits":
        return [np.unpackbits(result[row], axis=-1) for row in range(len(result))]
    return [result[row] for row in range(len(result))]


def _spread(size: int, indices: Array, weights: Array) -> Array:
    row = np.zeros(size, np.float32)
    row[indices] = weights
    return row


def _dense(_: Output, ours: Array, theirs: Array) -> Measures:
    """cosine; max_abs: the largest difference of one number, over the length of the original's vector."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return {"cosine": float(_unit(a) @ _unit(b)), "max_abs": float(np.abs(a - b).max() / max(np.linalg.norm(b), _TINY))}


def _multi_vector(_: Output, ours: Array, theirs: Array) -> Measures:
    """counts: whether there are as many. The others as for dense, of the worst vector; max_sim: the mean over the
    original's vectors of the highest cosine that one of ours has (Khattab and Zaharia, 2020, arXiv:2004.12832).
    """
    if len(ours) != len(theirs) or not len(theirs):
        same = float(len(ours) == len(theirs))
        return {"counts": same, "cosine": same, "max_abs": 0.0 if same else np.inf, "max_sim": same}
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    pairs = _unit(b) @ _unit(a).T
    differences = np.abs(a - b).max(axis=1) / np.maximum(np.linalg.norm(b, axis=1), _TINY)
    cosine, best = float(np.diagonal(pairs).min()), float(pairs.max(axis=1).mean())
    return {"counts": 1.0, "cosine": cosine, "max_abs": float(differences.max()), "max_sim": best}


def _sparse(output: SparseOutput, ours: Array, theirs: Array) -> Measures:
    """support: the share of entries that both have, of those that one has; cosine of the weights that are kept."""
    top = output.dim if output.top is None else output.top
    kept = np.where((theirs > 0) & leading(theirs[None], top)[0], theirs, 0).astype(np.float64)
    both, one = ((ours > 0) & (kept > 0)).sum(), ((ours > 0) | (kept > 0)).sum()
    cosine = float(_unit(ours.astype(np.float64)) @ _unit(kept)) if one else 1.0
    return {"support": float(both / one) if one else 1.0, "cosine": cosine}


def _gaussian(_: Output, ours: Array, theirs: Array) -> Measures:
    """Largest differences: of the mean over its length, of the log-variance as it is."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    apart = np.abs(a - b).max(axis=1)
    mean = apart[0] / max(np.linalg.norm(b[0]), _TINY)
    return {"mean_max_abs": float(mean), "log_variance_max_abs": float(apart[1])}


def _codes(_: Output, ours: Array, theirs: Array) -> Measures:
    """equal: the share of codes that are the same; counts: whether there are as many."""
    if ours.shape != theirs.shape:
        return {"counts": 0.0, "equal": 0.0}
    return {"counts": 1.0, "equal": float((ours == theirs).mean()) if theirs.size else 1.0}


def _scores(_: Output, ours: Array, theirs: Array) -> Measures:
    """max_abs: the largest difference, over the largest score where that is more than 1."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return {"max_abs": float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))}


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), _TINY))


_KINDS: dict[type, Callable[[Any, Array, Array], Measures]] = {
    DenseOutput: _dense,
    MultiVectorOutput: _multi_vector,
    SparseOutput: _sparse,
    GaussianOutput: _gaussian,
    CodesOutput: _codes,
    ScoresOutput: _scores,
}

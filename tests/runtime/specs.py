"""A spec of every kind of output, and what a graph that has them all gives for a batch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)

__all__ = ["ALL", "BITS", "CODES", "DENSE", "DIM", "GAUSSIAN", "MULTI", "SCORES", "SPARSE", "WHOLE", "batch"]

DIM = 8
DENSE = DenseOutput(tensor="dense", space="s", dim=DIM, normalized=True)
MULTI = MultiVectorOutput(tensor="multi", keep="keep", space="s", dim=DIM, normalized=True, dims=(4,))
WHOLE = MultiVectorOutput(tensor="multi", space="s", dim=DIM, normalized=True)
SPARSE = SparseOutput(tensor="sparse", space="s", dim=DIM, top=3)
GAUSSIAN = GaussianOutput(mean="mean", log_variance="log_variance", space="s", dim=DIM)
BITS = CodesOutput(tensor="bits", space="s", dim=DIM)
CODES = CodesOutput(tensor="codes", keep="keep", form="integers", space="s", dim=DIM)
SCORES = ScoresOutput(tensor="scores", labels=("cat", "dog", "bird"))
ALL: dict[str, Output] = {
    "dense": DENSE,
    "multi": MULTI,
    "whole": WHOLE,
    "sparse": SPARSE,
    "gaussian": GAUSSIAN,
    "bits": BITS,
    "codes": CODES,
    "scores": SCORES,
}


def batch(rows: int, width: int, seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Return what a graph with all the outputs gives for a batch: junk where `keep` is 0."""
    random = np.random.default_rng([seed, rows, width])
    keep = random.integers(0, 2, (rows, width))
    multi = random.normal(size=(rows, width, DIM)).astype(np.float32)
    multi /= np.linalg.norm(multi, axis=2, keepdims=True)
    multi[keep == 0] = np.nan
    # Few different weights, so that some are equal.
    sparse = np.maximum(random.integers(-3, 4, (rows, DIM)), 0).astype(np.float32) / 2
    return {
        "dense": random.normal(size=(rows, DIM)).astype(np.float32),
        "multi": multi,
        "keep": keep,
        "sparse": sparse,
        "mean": random.normal(size=(rows, DIM)).astype(np.float32),
        "log_variance": random.normal(size=(rows, DIM)).astype(np.float32),
        "bits": random.normal(size=(rows, DIM)).astype(np.float32),
        "codes": random.integers(0, 1024, (rows, width, DIM)),
        "scores": random.normal(size=(rows, 3)).astype(np.float32),
    }

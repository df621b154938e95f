"""Pooling of one text's token vectors in plain NumPy: the reference for graphs.

Without padding or masks, each mode is just its definition.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge.arrays import Floats
from embedge_export.recipe import PoolingMode

__all__ = ["normalize", "pool"]


def pool(states: Floats, modes: Sequence[PoolingMode]) -> Floats:
    """Return the pooled vector (dim x modes,) of token vectors (length, dim): the modes' vectors concatenated."""
    return np.concatenate([_pool(states, mode) for mode in modes]).astype(np.float32)


def normalize(vectors: Floats) -> Floats:
    """Return float32 rows (n, dim) scaled to length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def _pool(states: Floats, mode: PoolingMode) -> Floats:
    if mode == "cls":
        return np.asarray(states[0])
    if mode == "lasttoken":
        return np.asarray(states[-1])
    if mode == "max":
        return np.asarray(states.max(axis=0))
    if mode == "mean":
        return np.asarray(states.mean(axis=0))
    if mode == "mean_sqrt_len":
        return np.asarray(states.sum(axis=0) / np.sqrt(len(states)))
    shares = np.arange(1, len(states) + 1, dtype=np.float32)
    return np.asarray(shares @ states / shares.sum())

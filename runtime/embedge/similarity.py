"""Similarities between the rows of two results of the same kind, in plain NumPy.

Each function takes results, or plain arrays, and returns a matrix `(queries, documents)`. Results of different spaces
are refused. Blocks of rows bound the memory beside the matrix.

    from embedge.similarity import similarity
    scores = similarity(queries, documents)  # (queries, documents); higher is nearer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.errors import InvalidInput
from embedge.outputs.quantise import normalize
from embedge.outputs.ragged import offsets_of
from embedge.outputs.results import Codes, Gaussian, MultiVectors, Sparse, Vectors

__all__ = ["cosine", "dot", "expected_likelihood", "hamming", "max_sim", "similarity", "sparse_dot"]

Matrix = NDArray[np.float32]
Dense = Vectors | NDArray[Any]
Packed = Vectors | Codes | NDArray[np.uint8]
Many = MultiVectors | Sequence[NDArray[Any]] | NDArray[Any]
Normal = Gaussian | tuple[NDArray[Any], NDArray[Any]]

# Numbers in the largest array between two steps: 64 MiB of float32.
_BLOCK = 1 << 24
# The same without a matrix product: arrays that are read several times stay in the processor's cache.
_NEAR = 1 << 17
# Query vectors at a time in late interaction; the block of document vectors fills the rest of `_BLOCK`.
_QUERY_VECTORS = 1 << 11


def similarity(queries: Any, documents: Any) -> NDArray[Any]:
    """Return the similarity of each document to each query, by the metric of their kind.

    Dense vectors: `cosine`. Packed bits: the cosine of their signs, `1 - 2 * hamming / bits`. Multi-vectors: `max_sim`.
    Sparse weights: `sparse_dot`. Gaussians: `expected_likelihood`.

    Args:
        queries: A result or an array with n rows.
        documents: A result or an array of the same kind with m rows.

    Returns:
        `(n, m)` floats, higher is nearer.

    Raises:
        InvalidInput: The two sides differ in kind, space or size, or their kind has no metric.
    """
    one, other = _kind(queries), _kind(documents)
    if one != other:
        raise InvalidInput(f"{one} and {other} cannot be compared; ask for the same output on both sides")
    if one not in _BY_KIND:
        raise InvalidInput(f"{one} have no similarity; compare their rows with what they mean to you")
    return _BY_KIND[one](queries, documents)


def dot(queries: Dense, documents: Dense) -> Matrix:
    """Return the dot products of dense vectors.

    Args:
        queries: `(n, dim)` vectors. int8 counts as values times scale, and a packed bit as 1 or -1.
        documents: `(m, dim)` vectors.

    Returns:
        `(n, m)` float32.

    Raises:
        InvalidInput: The two sides differ in space or size.
    """
    ours, theirs = _pair(queries, documents)
    return ours @ theirs.T


def cosine(queries: Dense, documents: Dense) -> Matrix:
    """Return the cosines of dense vectors, `(n, m)` float32, 0 for a zero vector; see `dot`."""
    ours, theirs = _pair(queries, documents)
    return normalize(ours) @ normalize(theirs).T


def hamming(queries: Packed, documents: Packed) -> NDArray[np.int32]:
    """Return the number of differing bits of packed rows.

    Args:
        queries: `(n, bytes)` uint8.
        documents: `(m, bytes)` uint8.

    Returns:
        `(n, m)` int32, lower is nearer.

    Raises:
        InvalidInput: A side isn't packed bits, or the two differ in space or size.
    """
    _comparable(queries, documents)
    packed, others = _bits(queries), _bits(documents)
    _same_size(packed, others)
    ours, theirs = _words(packed), _words(others)
    distances = np.empty((len(ours), len(theirs)), np.int32)
    step = max(1, _NEAR // max(1, theirs.size))
    for start in range(0, len(ours), step):
        block = slice(start, start + step)
        distances[block] = _ones(ours[block, None] ^ theirs).sum(axis=2, dtype=np.int32)
    return distances


def max_sim(queries: Many, documents: Many) -> Matrix:
    """Return the sum, over a query's vectors, of the highest dot product with any vector of the document.

    Late interaction (Khattab and Zaharia, 2020, arXiv:2004.12832). An item without vectors scores 0.

    Args:
        queries: n items: a result, or an array `(k, dim)` for each.
        documents: m items.

    Returns:
        `(n, m)` float32, higher is nearer.

    Raises:
        InvalidInput: The two sides differ in space or size.
    """
    _comparable(queries, documents)
    (ours, our_offsets), (theirs, their_offsets) = _many(queries), _many(documents)
    if len(ours) and len(theirs):
        _same_size(ours, theirs)
    scores = np.zeros((len(our_offsets) - 1, len(their_offsets) - 1), np.float32)
    # `reduceat` reads the neighbour of an empty segment, so only rows with entries take part.
    our_rows, their_rows = np.flatnonzero(np.diff(our_offsets)), np.flatnonzero(np.diff(their_offsets))
    for queries_ in _blocks(our_offsets, our_rows, _QUERY_VECTORS):
        start, end = our_offsets[queries_[0]], our_offsets[queries_[-1] + 1]
        for documents_ in _blocks(their_offsets, their_rows, _BLOCK // _QUERY_VECTORS):
            first, last = their_offsets[documents_[0]], their_offsets[documents_[-1] + 1]
            products = ours[start:end] @ theirs[first:last].T
            best = np.maximum.reduceat(products, their_offsets[documents_] - first, axis=1)
            scores[np.ix_(queries_, documents_)] = np.add.reduceat(best, our_offsets[queries_] - start, axis=0)
    return scores


def sparse_dot(queries: Sparse, documents: Sparse) -> Matrix:
    """Return the dot products of sparse weights, `(n, m)` float32. Raises InvalidInput for different vocabularies."""
    _comparable(queries, documents)
    if queries.size != documents.size:
        raise InvalidInput(f"vocabularies of {queries.size:,} and of {documents.size:,} entries cannot be compared")
    known = np.unique(queries.indices)  # other entries contribute nothing
    scores = np.zeros((len(queries), len(documents)), np.float32)
    step = max(1, _BLOCK // max(1, len(known)))
    for start in range(0, len(documents), step):
        block = _spread(documents, known, start, min(start + step, len(documents)))
        for first in range(0, len(queries), step):
            rows = _spread(queries, known, first, min(first + step, len(queries)))
            scores[first : first + step, start : start + step] = rows @ block.T
    return scores


def expected_likelihood(queries: Normal, documents: Normal) -> NDArray[np.float64]:
    """Return the logarithm of the integral of the product of two diagonal normal densities.

    log ∫ N(x; a, s) N(x; b, t) dx = -1/2 sum over d of [(a_d - b_d)^2 / (s_d + t_d) + log(2 pi (s_d + t_d))], with
    variances s and t: the expected likelihood kernel (Jebara and Kondor, 2003, "Bhattacharyya and Expected Likelihood
    Kernels"); one of the measures between probabilistic embeddings in Chun et al., 2021 (PCME, arXiv:2101.05068).

    Args:
        queries: A result, or a pair of mean and log-variance, `(n, dim)` each. Log-variances are clipped to ±700.
        documents: The same with m rows.

    Returns:
        `(n, m)` float64, higher is nearer.

    Raises:
        InvalidInput: The two sides differ in space or size.
    """
    _comparable(queries, documents)
    (mean, variance), (means, variances) = _normal(queries), _normal(documents)
    _same_size(mean, means)
    constant = mean.shape[1] * np.log(2 * np.pi)
    result = np.empty((len(mean), len(means)))
    step = max(1, _NEAR // max(1, means.size))
    for start in range(0, len(mean), step):
        block = slice(start, start + step)
        total = variance[block, None] + variances
        apart = mean[block, None] - means
        np.divide(np.square(apart, out=apart), total, out=apart)
        result[block] = -0.5 * (apart.sum(axis=2) + np.log(total, out=total).sum(axis=2) + constant)
    return result


def _signs(queries: Packed, documents: Packed) -> Matrix:
    """Return `(n, m)` cosines of the signs of packed bits."""
    distances = hamming(queries, documents)
    bits = 8 * _bits(queries).shape[1]
    signs: Matrix = (1 - 2 * distances / bits).astype(np.float32)
    return signs


_BY_KIND: dict[str, Callable[[Any, Any], NDArray[Any]]] = {
    "vectors": cosine,
    "packed bits": _signs,
    "multi-vectors": max_sim,
    "sparse weights": sparse_dot,
    "distributions": expected_likelihood,
}


def _kind(rows: object) -> str:
    """Name the kind of rows, for messages."""
    if isinstance(rows, Vectors):
        return "packed bits" if rows.dtype == "ubinary" else "vectors"
    if isinstance(rows, Codes):
        return "packed bits" if rows.form == "bits" and rows.offsets is None else "codes"
    if isinstance(rows, np.ndarray) and rows.ndim == 2:
        return "packed bits" if rows.dtype == np.uint8 else "vectors"
    names = {MultiVectors: "multi-vectors", Sparse: "sparse weights", Gaussian: "distributions", tuple: "distributions"}
    known = {np.ndarray: "multi-vectors", list: "multi-vectors", **names}
    return known.get(type(rows), f"rows of type {type(rows).__name__}")


def _comparable(queries: object, documents: object) -> None:
    """Raise InvalidInput if both sides name their space, and not the same one."""
    one, other = (getattr(rows, "space", None) for rows in (queries, documents))
    if one != other and one is not None and other is not None:
        raise InvalidInput(f"spaces {one!r} and {other!r} cannot be compared; embed both sides with the same model")


def _same_size(queries: NDArray[Any], documents: NDArray[Any]) -> None:
    if queries.shape[-1] != documents.shape[-1]:
        sizes = f"{queries.shape[-1]:,} and of {documents.shape[-1]:,}"
        raise InvalidInput(f"rows of {sizes} numbers cannot be compared; ask for the same dim on both sides")


def _pair(queries: Dense, documents: Dense) -> tuple[Matrix, Matrix]:
    """Return both sides as float32 (n, dim). Raises InvalidInput."""
    _comparable(queries, documents)
    ours, theirs = _floats(queries), _floats(documents)
    _same_size(ours, theirs)
    return ours, theirs


def _floats(rows: Vectors | MultiVectors | NDArray[Any]) -> Matrix:
    """Return vectors as float32 `(n, dim)`, scaled or unpacked. Raises InvalidInput."""
    if not isinstance(rows, (Vectors, MultiVectors)):
        array = np.asarray(rows, np.float32)
        if array.ndim != 2:
            raise InvalidInput(f"vectors are needed as an array of shape (n, dim), not {array.shape}")
        return array
    if rows.dtype == "ubinary":
        return np.unpackbits(rows.values, axis=1).astype(np.float32) * 2 - 1
    floats = rows.values.astype(np.float32, copy=False)
    return floats if rows.scales is None else floats * rows.scales[:, None]


def _many(rows: Many) -> tuple[Matrix, NDArray[np.int64]]:
    """Return all vectors of all items (total, dim), and the offsets of the items."""
    if isinstance(rows, MultiVectors):
        return _floats(rows), rows.offsets
    items = [_floats(item) for item in rows]
    offsets = offsets_of(np.array([len(item) for item in items], np.int64))
    return np.concatenate(items) if items else np.zeros((0, 0), np.float32), offsets


def _normal(rows: Normal) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance, (n, dim) each."""
    mean, log_variance = (rows.mean, rows.log_variance) if isinstance(rows, Gaussian) else rows
    # Beyond 700, a variance or a quotient by it would leave the range of float64.
    return np.asarray(mean, np.float64), np.exp(np.clip(np.asarray(log_variance, np.float64), -700, 700))


def _bits(rows: Packed) -> NDArray[np.uint8]:
    """Return packed rows (n, bytes). Raises InvalidInput."""
    values = rows.values if isinstance(rows, (Vectors, Codes)) else rows
    if values.dtype != np.uint8 or values.ndim != 2 or getattr(rows, "offsets", None) is not None:
        raise InvalidInput("packed bits are needed, uint8 of shape (n, bytes); ask for dtype 'ubinary'")
    return values


def _words(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return packed rows as 64-bit words, padded with 0, for eight times fewer operations."""
    filled = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), np.uint8)
    filled[:, : packed.shape[1]] = packed
    return filled.view(np.uint64)


_ONES_OF_BYTE = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1, dtype=np.uint8)


def _ones_by_table(words: NDArray[np.uint64]) -> NDArray[np.uint8]:
    ones: NDArray[np.uint8] = _ONES_OF_BYTE[words.view(np.uint8)]
    return ones


# NumPy counts bits since 2.0.
_ones: Callable[[NDArray[np.uint64]], NDArray[np.uint8]] = getattr(np, "bitwise_count", _ones_by_table)


def _spread(rows: Sparse, known: NDArray[np.int32], start: int, end: int) -> Matrix:
    """Return rows start to end as dense `(rows, known)` weights of the `known` vocabulary entries."""
    span = slice(int(rows.offsets[start]), int(rows.offsets[end]))
    row = np.repeat(np.arange(end - start), np.diff(rows.offsets[start : end + 1]))
    column = np.searchsorted(known, rows.indices[span])
    there = known[np.minimum(column, len(known) - 1)] == rows.indices[span] if len(known) else np.zeros(len(row), bool)
    spread = np.zeros((end - start, len(known)), np.float32)
    spread[row[there], column[there]] = rows.weights[span][there]
    return spread


def _blocks(offsets: NDArray[np.int64], rows: NDArray[np.int64], most: int) -> Iterator[NDArray[np.int64]]:
    """Yield runs of `rows` with at most `most` entries together, or of one row."""
    start = 0
    while start < len(rows):
        fits = int(np.searchsorted(offsets[rows + 1], offsets[rows[start]] + most, side="right"))
        end = max(start + 1, fits)
        yield rows[start:end]
        start = end

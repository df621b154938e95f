"""Typed results, one module a kind: what may be asked for, whether rows are good, and how they become a result.

size = outputs.check(spec, dim, dtype, name="dense")          # refuses what is not possible
outputs.fits(spec, tensors, rows, name="dense")               # a graph that is not what the manifest says
outputs.good(specs, tensors, rows)                            # (rows,): finite, and what else the kind asks for
collector = outputs.collector(spec, count, dim=size, dtype=dtype, pool=None)
collector.add(indices, tensors)                               # as batches are done, in any order
result = collector.finish()                                   # Vectors, MultiVectors, Sparse, …
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.errors import BundleError
from embedge.outputs import codes, dense, gaussian, multi_vector, scores, sparse
from embedge.outputs.base import Collector, OutputKind, RowMask, Tensors
from embedge.outputs.dense import finish
from embedge.outputs.quantise import DTYPES, DType, normalize
from embedge.outputs.results import Codes, Gaussian, MultiVectors, Result, Scores, Sparse, Vectors

__all__ = [
    "DTYPES",
    "Codes",
    "Collector",
    "DType",
    "Gaussian",
    "MultiVectors",
    "Result",
    "Scores",
    "Sparse",
    "Vectors",
    "check",
    "collector",
    "finish",
    "fits",
    "good",
    "normalize",
]

_KINDS: dict[type, OutputKind[Any]] = {
    DenseOutput: dense,
    MultiVectorOutput: multi_vector,
    SparseOutput: sparse,
    GaussianOutput: gaussian,
    CodesOutput: codes,
    ScoresOutput: scores,
}


def check(output: Output, dim: int | None, dtype: str, pool: int | None = None, *, name: str) -> int:
    """Check the options of a request against an output.

    Args:
        output: spec of the output.
        dim: dimension to truncate to; None keeps all.
        dtype: dtype of the result.
        pool: most vectors per item, for outputs with several.
        name: name of the output, for messages.

    Returns:
        How many numbers each vector will have, the `dim` of `collector`.

    Raises:
        InvalidInput: an option isn't possible.
    """
    return _KINDS[type(output)].check(output, dim, dtype, pool, name=name)


def good(specs: Iterable[Output], tensors: Tensors, rows: int) -> RowMask:
    """Return the mask `(rows,)` of rows that are valid in every output."""
    flags = np.ones(rows, bool)
    for output in specs:
        flags &= _KINDS[type(output)].good(output, tensors)
    return flags


def fits(output: Output, tensors: Tensors, rows: int, *, name: str) -> None:
    """Raise BundleError unless the output's tensors `(rows, …)` have the dtypes and shapes of its spec."""
    axes: dict[str, int] = {}
    for tensor, (kinds, rest) in _KINDS[type(output)].shapes(output).items():
        array = tensors[tensor]
        shape: tuple[int | str, ...] = (
            rows,
            *(axes.get(axis, axis) if isinstance(axis, str) else axis for axis in rest),
        )
        same = len(array.shape) == len(shape) and all(
            isinstance(want, str) or have == want for have, want in zip(array.shape, shape, strict=True)
        )
        if not same or array.dtype.kind not in kinds:
            want = "floats" if kinds == "f" else "numbers" if "f" in kinds else "integers"
            raise BundleError(
                f"the graph is not what the manifest says: output {name!r} should be {want} of shape "
                f"({', '.join(map(str, shape))}) and is {array.dtype} of shape {array.shape}; export the bundle again"
            )
        axes |= {axis: size for axis, size in zip(shape, array.shape, strict=True) if isinstance(axis, str)}


def collector(output: Output, count: int, *, dim: int, dtype: DType, pool: int | None = None) -> Collector:
    """Return a collector for the rows of `count` items. `check` accepted the options and returned `dim`."""
    return _KINDS[type(output)].collector(output, count, dim=dim, dtype=dtype, pool=pool)

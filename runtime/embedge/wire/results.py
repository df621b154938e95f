"""Convert results of every kind to messages and back, equal bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from embedge.errors import EmbedgeError
from embedge.outputs import Codes, DType, Gaussian, MultiVectors, Result, Scores, Sparse, Vectors
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.tensors import DTYPE_NAMES, fill_tensor, pack_array, unpack_array

__all__ = ["KINDS", "fill_output", "result_from_proto"]

KINDS = {
    "dense": pb.KIND_DENSE,
    "multi_vector": pb.KIND_MULTI_VECTOR,
    "sparse": pb.KIND_SPARSE,
    "gaussian": pb.KIND_GAUSSIAN,
    "codes": pb.KIND_CODES,
    "scores": pb.KIND_SCORES,
}
"""The number of each kind of output."""


def fill_output(message: pb.Output, result: Result) -> None:
    """Write a result into a message that already has its name."""
    message.kind = KINDS[result.kind]
    if not isinstance(result, Scores):
        message.space = result.space
    if isinstance(result, Sparse):
        message.size = result.size
        fill_tensor(message.values, result.weights)
    elif isinstance(result, Gaussian):
        fill_tensor(message.values, result.mean)
        fill_tensor(message.log_variance, result.log_variance)
    else:
        fill_tensor(message.values, result.values, None if isinstance(result, Scores) else result.dtype)
    if isinstance(result, (Sparse, Scores)) and result.indices is not None:
        message.indices = pack_array(result.indices, "int32")
    if isinstance(result, (MultiVectors, Sparse, Codes)) and result.offsets is not None:
        message.offsets = pack_array(result.offsets, "int64")
    if isinstance(result, (Vectors, MultiVectors)) and result.scales is not None:
        message.scales = pack_array(result.scales, "float32")
    if isinstance(result, Scores):
        message.labels.extend(result.labels)


def result_from_proto(message: pb.Output) -> Result:
    """Return the result that a server's message holds. Its arrays are read-only views of the received bytes."""
    make = _RESULTS.get(message.kind)
    if make is None:
        raise EmbedgeError(f"output {message.name!r} is of a kind newer than this client ({message.kind}); upgrade")
    return make(message, _array(message.values), cast("DType", DTYPE_NAMES[message.values.dtype]))


def _array(message: pb.Tensor) -> Any:
    return unpack_array(message.data, DTYPE_NAMES[message.dtype], message.shape)


def _vectors(message: pb.Output, values: Any, dtype: DType) -> Vectors:
    return Vectors(values, message.space, dtype, _scales(message, dtype))


def _multi_vectors(message: pb.Output, values: Any, dtype: DType) -> MultiVectors:
    return MultiVectors(values, _offsets(message), message.space, dtype, _scales(message, dtype))


def _sparse(message: pb.Output, values: Any, _dtype: str) -> Sparse:
    return Sparse(_flat(message.indices, "int32"), values, _offsets(message), message.space, message.size)


def _gaussian(message: pb.Output, values: Any, dtype: DType) -> Gaussian:
    return Gaussian(values, _array(message.log_variance), message.space, dtype)


def _codes(message: pb.Output, values: Any, dtype: str) -> Codes:
    # Single codes have no offsets; lists of codes have at least one, even without items.
    offsets = _offsets(message) if message.offsets else None
    return Codes(values, message.space, "bits" if dtype == "ubinary" else "integers", offsets)


def _scores(message: pb.Output, values: Any, _dtype: str) -> Scores:
    indices = unpack_array(message.indices, "int32", values.shape) if message.HasField("indices") else None
    return Scores(values, tuple(message.labels), indices)


def _scales(message: pb.Output, dtype: str) -> Any:
    return _flat(message.scales, "float32") if dtype == "int8" else None


def _offsets(message: pb.Output) -> Any:
    return _flat(message.offsets, "int64")


def _flat(data: bytes, dtype: str) -> Any:
    return unpack_array(data, dtype, [-1])


_RESULTS: dict[int, Callable[[pb.Output, Any, Any], Result]] = {
    pb.KIND_DENSE: _vectors,
    pb.KIND_MULTI_VECTOR: _multi_vectors,
    pb.KIND_SPARSE: _sparse,
    pb.KIND_GAUSSIAN: _gaussian,
    pb.KIND_CODES: _codes,
    pb.KIND_SCORES: _scores,
}

"""Results as output tensors of the Open Inference Protocol, where they are tensors."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.output_specs import CodesOutput, GaussianOutput, Output, ScoresOutput, SparseOutput
from embedge.errors import InvalidInput
from embedge.oip import grpc_service_pb2 as oip
from embedge.outputs import Codes, Gaussian, MultiVectors, Result, Scores, Sparse, Vectors
from embedge.serving.oip_inputs import DATATYPES
from embedge.wire.tensors import pack_array

__all__ = ["fill_output", "output_tensors"]

OipColumn = tuple[str, NDArray[Any], str]


def output_tensors(name: str, output: Output) -> list[tuple[str, str, list[int]]]:
    """Return name, datatype and shape (-1: any size) of each tensor of an output."""
    if isinstance(output, ScoresOutput):
        return [(name, "FP32", [-1, len(output.labels)])]
    if isinstance(output, SparseOutput):
        return [(name, "FP32", [-1, -1]), (f"{name}_indices", "INT32", [-1, -1])]
    many = [-1] if output.ragged else []
    if isinstance(output, CodesOutput):
        bits = output.form == "bits"
        return [(name, "UINT8" if bits else "INT32", [-1, *many, output.dim // 8 if bits else output.dim])]
    tensors = [(name, "FP32", [-1, *many, output.dim])]
    if isinstance(output, GaussianOutput):
        tensors.append((f"{name}_log_variance", "FP32", [-1, output.dim]))
    return tensors


def fill_output(answer: oip.ModelInferResponse, name: str, result: Result, *, raw: bool) -> None:
    """Add the tensors of a result. Raises InvalidInput for ragged items: the protocol has no such tensors."""
    for column, values, dtype in _columns(name, result):
        tensor = answer.outputs.add(name=column, datatype=DATATYPES[dtype], shape=values.shape)
        # The protocol has no typed field for half precision; such a tensor always travels packed.
        if raw or dtype == "float16":
            answer.raw_output_contents.append(pack_array(values, dtype))
        elif dtype == "float32":
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
        elif dtype in ("int8", "int32"):
            tensor.contents.int_contents.extend(values.ravel().tolist())
        else:
            tensor.contents.uint_contents.extend(values.ravel().tolist())


def _columns(name: str, result: Result) -> list[OipColumn]:
    if isinstance(result, Scores):
        return [(name, result.values, result.values.dtype.name)]
    if isinstance(result, Gaussian):
        return [(name, result.mean, result.dtype), (f"{name}_log_variance", result.log_variance, result.dtype)]
    if isinstance(result, Sparse):
        dtype = result.weights.dtype.name
        columns = [(name, result.weights, dtype), (f"{name}_indices", result.indices, "int32")]
    else:
        columns = [(name, result.values, result.dtype)]
    if isinstance(result, (Vectors, MultiVectors)) and result.scales is not None:
        columns.append((f"{name}_scales", result.scales, "float32"))
    if isinstance(result, Vectors) or (isinstance(result, Codes) and result.offsets is None):
        return columns
    return [(column, _even(name, values, result), dtype) for column, values, dtype in columns]


def _even(name: str, values: NDArray[Any], result: MultiVectors | Sparse | Codes) -> NDArray[Any]:
    """Return ragged entries as (n, k, …), for items with k entries each."""
    counts = np.diff(cast("NDArray[np.int64]", result.offsets))
    if len(set(counts.tolist())) > 1:
        raise InvalidInput(
            f"the items differ in how much output {name!r} has of each, for which this protocol has no tensor; "
            "use embedge.v1, or send one item a call"
        )
    return values.reshape(len(counts), counts[0] if len(counts) else 0, *values.shape[1:])

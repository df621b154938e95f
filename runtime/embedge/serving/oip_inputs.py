"""Items from the input tensors of the Open Inference Protocol: item i is element i of every input."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec
import numpy as np

from embedge.bundle.manifest import Part, Tower
from embedge.bundle.part_specs import TensorPrepare, VectorPrepare
from embedge.errors import InvalidInput
from embedge.oip import grpc_service_pb2 as oip
from embedge.wire.tensors import received
from embedge.wire.texts import text_from_bytes

__all__ = ["DATATYPES", "input_tensor", "items"]

DATATYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "float64": "FP64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "bool": "BOOL",
    "ubinary": "UINT8",
}
"""The protocol's name of each dtype."""

_DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items() if dtype != "ubinary"}
# Where typed contents of a dtype are; half precision always travels packed.
_FIELDS = {
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "bool": "bool_contents",
}
_TYPED = ("tensor", "vector")
_OipTensor = oip.ModelInferRequest.InferInputTensor


def input_tensor(part: Part) -> tuple[str, list[int]]:
    """Return the datatype and the shape, -1 for any size, of a part's input."""
    spec = part.prepare
    if isinstance(spec, VectorPrepare):
        return "FP32", [-1, spec.dim]
    if isinstance(spec, TensorPrepare):
        return DATATYPES[spec.dtype], [-1, *(size if isinstance(size, int) else -1 for size in spec.shape)]
    return "BYTES", [-1]


def items(
    message: oip.ModelInferRequest, towers: Mapping[str, Tower], tower: str | None, most: int
) -> list[dict[str, Any]]:
    """Return the items of a request, at most so many. Raises InvalidInput."""
    raw = message.raw_input_contents
    if not message.inputs:
        raise InvalidInput("the request has no inputs; send a tensor for each part, e.g. 'text' of BYTES")
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(f"{len(message.inputs)} inputs, but {len(raw)} raw_input_contents; send one for each")
    [(name, times)] = Counter(tensor.name for tensor in message.inputs).most_common(1)
    if times > 1:
        raise InvalidInput(f"input {name!r} is there {times} times; send one tensor for each part")
    for tensor in message.inputs:  # elements of no bytes cost their sender nothing
        if tensor.shape and tensor.shape[0] > most:
            raise InvalidInput(f"input {tensor.name!r} has {tensor.shape[0]:,} items, a call has at most {most:,}")
    modalities = _modalities({tensor.name for tensor in message.inputs}, towers, tower)
    columns = {
        tensor.name: _column(tensor, raw[i] if raw else None, modalities.get(tensor.name, "text"))
        for i, tensor in enumerate(message.inputs)
    }
    if len({len(column) for column in columns.values()}) > 1:
        raise InvalidInput("the inputs differ in their number of elements; element i of each makes item i")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _modalities(names: set[str], towers: Mapping[str, Tower], tower: str | None) -> dict[str, str]:
    """Return the modality of each part, in the named tower or the first with all the parts."""
    fits = [each for key, each in towers.items() if key == tower or (tower is None and names <= set(each.parts))]
    return {name: part.modality for each in reversed(fits) for name, part in each.parts.items()}


def _column(tensor: _OipTensor, raw: bytes | None, modality: str) -> Sequence[Any]:
    """Return the elements of an input, one an item."""
    if raw is not None and tensor.contents.ByteSize():
        raise InvalidInput(f"input {tensor.name!r} has typed contents and raw_input_contents; send one of them")
    if tensor.datatype != "BYTES":
        if modality == "text":
            raise InvalidInput(f"input {tensor.name!r} has datatype {tensor.datatype}; texts are BYTES")
        return _array(tensor, raw)
    if modality in _TYPED:
        raise InvalidInput(f"input {tensor.name!r} is a {modality}, not BYTES; see the model's metadata")
    shape = list(tensor.shape)
    found = tensor.contents.bytes_contents if raw is None else _split(tensor.name, raw)
    elements = list(islice(found, max(shape, default=0) + 1))  # one more than announced is enough to see
    if shape not in ([len(elements)], [len(elements), 1]):
        raise InvalidInput(
            f"input {tensor.name!r} has shape {shape}, but {len(elements)} elements; send shape [n] or [n, 1]"
        )
    if modality == "text":
        return [text_from_bytes(element) for element in elements]
    return [_row(tensor.name, *each) for each in enumerate(elements)] if modality == "table" else elements


def _array(tensor: _OipTensor, raw: bytes | None) -> Sequence[Any]:
    dtype = _DTYPES.get(tensor.datatype)
    if dtype is None:
        raise InvalidInput(f"input {tensor.name!r} has datatype {tensor.datatype}, which no part can be")
    if not tensor.shape:
        raise InvalidInput(f"input {tensor.name!r} has no axis; the first goes over the items")
    try:
        if raw is None:
            if dtype not in _FIELDS:
                raise InvalidInput(f"{tensor.datatype} has no typed contents; send it packed, as raw_input_contents")
            values = getattr(tensor.contents, _FIELDS[dtype])
            raw = np.asarray(values, np.dtype(dtype).newbyteorder("<")).tobytes()
        return list(received(raw, dtype, tensor.shape))
    except (InvalidInput, OverflowError) as error:
        raise InvalidInput(f"input {tensor.name!r}: {error}") from error


def _row(name: str, index: int, element: bytes) -> dict[str, float | str | None]:
    """Return a row of a table from its JSON object."""
    try:
        return msgspec.json.decode(element, type=dict[str, float | str | None])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(
            f"input {name!r}: element {index} is not a JSON object of numbers and strings: {error}", index=index
        ) from error


def _split(name: str, raw: bytes) -> Iterator[bytes]:
    """Yield the elements of a packed BYTES tensor: each is its length (4 bytes, little-endian) and its bytes."""
    position = 0
    while position < len(raw):
        start = position + 4
        position = start + (struct.unpack_from("<I", raw, position)[0] if start <= len(raw) else 0)
        if position > len(raw) or start > len(raw):
            raise InvalidInput(f"input {name!r}: its raw contents end inside an element; each needs its length first")
        yield raw[start:position]

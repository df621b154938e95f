"""The Open Inference Protocol, version 2: each BYTES input is a part, each output of the tower a tensor.

An item is the i-th element of every input. Request parameters carry what the protocol has no field for: tower, dim,
dtype, prompt, truncate, priority. The protocol has no error for one item, so a bad item fails its whole request.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, get_args

import grpc

from embedge.embedder import Embedder
from embedge.errors import InvalidInput, NotFound, Unavailable
from embedge.manifest import Tower
from embedge.oip import grpc_service_pb2 as oip
from embedge.outputs import Vectors
from embedge.request import Priority, Reply, Request, raise_item_errors
from embedge.serving.handlers import Context, then, unary
from embedge.serving.models import Models
from embedge.serving.servicer import within
from embedge.wire.convert import deadline_in, pack_array

__all__ = ["SERVICE", "OipServicer"]

SERVICE = "inference.GRPCInferenceService"

_DATATYPES = {"float32": "FP32", "float16": "FP16", "int8": "INT8", "ubinary": "UINT8"}
# Request options, and the forms in which a parameter may carry each.
_PARAMETERS = {
    "tower": ("string_param",),
    "dim": ("int64_param", "uint64_param"),
    "dtype": ("string_param",),
    "prompt": ("string_param",),
    "truncate": ("bool_param",),
    "priority": ("string_param",),
}


class OipServicer:
    """Answers the protocol's calls of one server. Used on the event loop only."""

    def __init__(self, models: Models, *, max_message_bytes: int) -> None:
        self._models = models
        self._max_message_bytes = max_message_bytes

    def handler(self) -> grpc.GenericRpcHandler:
        """Return all methods, to be added to a server."""
        methods = {
            "ServerLive": unary(self.server_live, oip.ServerLiveRequest),
            "ServerReady": unary(self.server_ready, oip.ServerReadyRequest),
            "ModelReady": unary(self.model_ready, oip.ModelReadyRequest),
            "ServerMetadata": unary(self.server_metadata, oip.ServerMetadataRequest),
            "ModelMetadata": unary(self.model_metadata, oip.ModelMetadataRequest),
            "ModelInfer": unary(self.model_infer, oip.ModelInferRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def server_live(self, _message: oip.ServerLiveRequest, _context: Context) -> bytes:
        """Answer that the process is there."""
        return oip.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, _message: oip.ServerReadyRequest, _context: Context) -> bytes:
        """Answer whether every model serves."""
        models = self._models.all() if self._models.repository else []
        ready = bool(models) and all(model.serving for model in models)
        return oip.ServerReadyResponse(ready=ready).SerializeToString()

    async def model_ready(self, message: oip.ModelReadyRequest, _context: Context) -> bytes:
        """Answer whether a model is there and serves."""
        try:
            ready = self._model(message.name, message.version).serving
        except (NotFound, Unavailable):
            ready = False
        return oip.ModelReadyResponse(ready=ready).SerializeToString()

    async def server_metadata(self, _message: oip.ServerMetadataRequest, _context: Context) -> bytes:
        """Answer with the server's name and version."""
        return oip.ServerMetadataResponse(name="embedge", version=version("embedge")).SerializeToString()

    async def model_metadata(self, message: oip.ModelMetadataRequest, _context: Context) -> bytes:
        """Answer with the inputs and outputs of a model's first tower."""
        model = self._model(message.name, message.version)
        tower = next(iter(model.manifest.towers.values()))
        return oip.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            platform=f"embedge_{model.backend}",
            inputs=[_tensor(name, "BYTES", -1) for name in tower.parts],
            outputs=_output_tensors(tower),
        ).SerializeToString()

    async def model_infer(self, message: oip.ModelInferRequest, context: Context) -> bytes:
        """Answer one request, in packed bytes if it came in packed bytes, else in typed contents."""
        model = self._model(message.model_name, message.model_version)
        request = _request(message, deadline_in(context.time_remaining()))

        def pack(reply: Reply) -> bytes:
            raise_item_errors(reply.errors, len(reply.tokens))
            answer = oip.ModelInferResponse(model_name=reply.model, model_version=reply.version, id=message.id)
            for name, vectors in reply.outputs.items():
                _fill_output(answer, name, vectors, raw=bool(message.raw_input_contents))
            return within(self._max_message_bytes, answer.SerializeToString())

        return await then(model.submit(request), pack)

    def _model(self, name: str, wanted: str) -> Embedder:
        model = self._models.get(name)
        if wanted not in ("", model.version):
            raise NotFound(f"model {name!r} has version {model.version}, not {wanted!r}; ask for it, or for none")
        return model


def _tensor(name: str, datatype: str, *shape: int) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)


def _output_tensors(tower: Tower) -> list[oip.ModelMetadataResponse.TensorMetadata]:
    return [_tensor(name, "FP32", -1, output.dim) for name, output in tower.outputs.items()]


def _request(message: oip.ModelInferRequest, deadline: float | None) -> Request:
    options: dict[str, Any] = {name: _option(message, name) for name in _PARAMETERS if name in message.parameters}
    outputs = tuple(output.name for output in message.outputs)
    return Request(items=_items(message), outputs=outputs, deadline=deadline, **options)


def _option(message: oip.ModelInferRequest, name: str) -> object:
    value = message.parameters[name]
    choice = value.WhichOneof("parameter_choice") or "nothing"
    if choice not in _PARAMETERS[name]:
        raise InvalidInput(f"parameter {name!r} must be sent as {_PARAMETERS[name][0]}, not as {choice}")
    option = getattr(value, choice)
    if name == "priority" and option not in get_args(Priority):
        raise InvalidInput(f"parameter 'priority' must be one of {', '.join(get_args(Priority))}, not {option!r}")
    return option


def _items(message: oip.ModelInferRequest) -> Sequence[Mapping[str, str]]:
    raw = message.raw_input_contents
    if not message.inputs:
        raise InvalidInput("the request has no inputs; send a BYTES tensor for each part, e.g. 'text'")
    if raw and len(raw) != len(message.inputs):
        raise InvalidInput(f"{len(message.inputs)} inputs, but {len(raw)} raw_input_contents; send one for each")
    [(name, times)] = Counter(tensor.name for tensor in message.inputs).most_common(1)
    if times > 1:
        raise InvalidInput(f"input {name!r} is there {times} times; send one tensor for each part")
    columns = {tensor.name: _texts(tensor, raw[i] if raw else None) for i, tensor in enumerate(message.inputs)}
    if len({len(column) for column in columns.values()}) > 1:
        raise InvalidInput("the inputs differ in their number of elements; element i of each makes item i")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _texts(tensor: oip.ModelInferRequest.InferInputTensor, raw: bytes | None) -> list[str]:
    if tensor.datatype != "BYTES":
        raise InvalidInput(f"input {tensor.name!r} has datatype {tensor.datatype}; texts are BYTES")
    if raw is not None and tensor.contents.ByteSize():
        raise InvalidInput(f"input {tensor.name!r} has typed contents and raw_input_contents; send one of them")
    elements = list(tensor.contents.bytes_contents if raw is None else _split(tensor.name, raw))
    shape = list(tensor.shape)
    if shape not in ([len(elements)], [len(elements), 1]):
        raise InvalidInput(
            f"input {tensor.name!r} has shape {shape}, but {len(elements)} elements; send shape [n] or [n, 1]"
        )
    return [element.decode("utf-8", "surrogateescape") for element in elements]


def _split(name: str, raw: bytes) -> Iterator[bytes]:
    """Yield the elements of a packed BYTES tensor: each is its length (4 bytes, little-endian) and its bytes."""
    position = 0
    while position < len(raw):
        start = position + 4
        position = start + (struct.unpack_from("<I", raw, position)[0] if start <= len(raw) else 0)
        if position > len(raw) or start > len(raw):
            raise InvalidInput(f"input {name!r}: its raw contents end inside an element; each needs its length first")
        yield raw[start:position]


def _fill_output(answer: oip.ModelInferResponse, name: str, vectors: Vectors, *, raw: bool) -> None:
    columns = [(name, vectors.values, vectors.dtype)]
    if vectors.scales is not None:
        columns.append((f"{name}_scales", vectors.scales, "float32"))
    for column, values, dtype in columns:
        tensor = answer.outputs.add(name=column, datatype=_DATATYPES[dtype], shape=values.shape)
        # The protocol has no typed field for half precision; such a tensor always travels packed.
        if raw or dtype == "float16":
            answer.raw_output_contents.append(pack_array(values, dtype))
        elif dtype == "float32":
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
        elif dtype == "int8":
            tensor.contents.int_contents.extend(values.ravel().tolist())
        else:
            tensor.contents.uint_contents.extend(values.ravel().tolist())

"""The Open Inference Protocol, version 2: each input is a part, each output of the tower a tensor.

An item is the i-th element of every input. Request parameters carry options without a field: tower, dim, dtype, pool,
prompt, truncate, priority. The protocol has no error per item, so a bad item fails its whole request.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, get_args

import grpc

from embedge.embedder import Embedder
from embedge.errors import InvalidInput, NotFound, Unavailable
from embedge.oip import grpc_service_pb2 as oip
from embedge.request import Priority, Reply, Request, deadline_in, raise_item_errors
from embedge.serving.handlers import CallContext, reply_bytes, reply_when_done, unary
from embedge.serving.models import Models
from embedge.serving.oip_inputs import input_tensor, items
from embedge.serving.oip_outputs import fill_output, output_tensors

__all__ = ["SERVICE", "OipServicer"]

SERVICE = "inference.GRPCInferenceService"

# Request options, and the accepted parameter types of each.
_PARAMETERS = {
    "tower": ("string_param",),
    "dim": ("int64_param", "uint64_param"),
    "dtype": ("string_param",),
    "pool": ("int64_param", "uint64_param"),
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

    async def server_live(self, _message: oip.ServerLiveRequest, _context: CallContext) -> bytes:
        """Confirm liveness."""
        return oip.ServerLiveResponse(live=True).SerializeToString()

    async def server_ready(self, _message: oip.ServerReadyRequest, _context: CallContext) -> bytes:
        """Answer whether every model serves."""
        models = self._models.all() if self._models.repository else []
        ready = bool(models) and all(model.serving for model in models)
        return oip.ServerReadyResponse(ready=ready).SerializeToString()

    async def model_ready(self, message: oip.ModelReadyRequest, _context: CallContext) -> bytes:
        """Answer whether a model is there and serves."""
        try:
            ready = self._model(message.name, message.version).serving
        except (NotFound, Unavailable):
            ready = False
        return oip.ModelReadyResponse(ready=ready).SerializeToString()

    async def server_metadata(self, _message: oip.ServerMetadataRequest, _context: CallContext) -> bytes:
        """Answer with the server's name and version."""
        return oip.ServerMetadataResponse(name="embedge", version=version("embedge")).SerializeToString()

    async def model_metadata(self, message: oip.ModelMetadataRequest, _context: CallContext) -> bytes:
        """Answer with the inputs and outputs of a model, of all its loaded towers; those of the first come first."""
        model = self._model(message.name, message.version)
        towers = model.towers.values()
        inputs = {name: input_tensor(part) for tower in towers for name, part in tower.parts.items()}
        outputs = [output_tensors(*each) for tower in towers for each in tower.outputs.items()]
        return oip.ModelMetadataResponse(
            name=model.name,
            versions=[model.version],
            platform=f"embedge_{model.backend}",
            inputs=[_metadata(name, *tensor) for name, tensor in inputs.items()],
            outputs=[_metadata(*tensor) for tensor in {each[0]: each for some in outputs for each in some}.values()],
        ).SerializeToString()

    async def model_infer(self, message: oip.ModelInferRequest, context: CallContext) -> bytes:
        """Answer one request, in packed bytes if it came in packed bytes, else in typed contents."""
        model = self._model(message.model_name, message.model_version)
        request = _request(message, model, deadline_in(context.time_remaining()))

        def pack(reply: Reply) -> bytes:
            raise_item_errors(reply.errors, len(reply.tokens))
            answer = oip.ModelInferResponse(model_name=reply.model, model_version=reply.version, id=message.id)
            for name, result in reply.outputs.items():
                fill_output(answer, name, result, raw=bool(message.raw_input_contents))
            return reply_bytes(answer, self._max_message_bytes)

        return await reply_when_done(model.submit(request), pack)

    def _model(self, name: str, wanted: str) -> Embedder:
        model = self._models.get(name)
        if wanted not in ("", model.version):
            raise NotFound(f"model {name!r} has version {model.version}, not {wanted!r}; ask for it, or for none")
        return model


def _metadata(name: str, datatype: str, shape: Sequence[int]) -> oip.ModelMetadataResponse.TensorMetadata:
    return oip.ModelMetadataResponse.TensorMetadata(name=name, datatype=datatype, shape=shape)


def _request(message: oip.ModelInferRequest, model: Embedder, deadline: float | None) -> Request:
    options: dict[str, Any] = {name: _option(message, name) for name in _PARAMETERS if name in message.parameters}
    outputs = tuple(output.name for output in message.outputs)
    found = items(message, model.towers, options.get("tower"), model.config.max_queue_items)
    return Request(items=found, outputs=outputs, deadline=deadline, **options)


def _option(message: oip.ModelInferRequest, name: str) -> object:
    value = message.parameters[name]
    choice = value.WhichOneof("parameter_choice") or "nothing"
    if choice not in _PARAMETERS[name]:
        raise InvalidInput(f"parameter {name!r} must be sent as {_PARAMETERS[name][0]}, not as {choice}")
    option = getattr(value, choice)
    if name == "priority" and option not in get_args(Priority):
        raise InvalidInput(f"parameter 'priority' must be one of {', '.join(get_args(Priority))}, not {option!r}")
    return option

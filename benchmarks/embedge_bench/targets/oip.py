"""Any Open Inference Protocol server over gRPC: `oip://HOST:PORT/MODEL?input=text&output=embedding`.

Input and output are found by themselves where the model has one text input and one output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from embedge.errors import InvalidInput, NotFound
from embedge_bench.processes import listening
from embedge_bench.results import TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.base import Target, TargetReply, follow

if TYPE_CHECKING:
    from embedge.oip import grpc_service_pb2 as pb

__all__ = ["Oip", "make"]

_SERVICE = "/inference.GRPCInferenceService/"
_OPEN_SECONDS = 10.0
_PACKED = 4096  # requests kept as bytes
_DTYPES = {"FP32": "<f4", "FP16": "<f2", "FP64": "<f8"}


class OipOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the address. truncate: sent as a request parameter, which our own server reads.

    pid: the process that holds all of the server, where more than those that listen do the work.
    """

    input: str | None = None
    output: str | None = None
    truncate: bool = False
    pid: int | None = None


class Oip(Target):
    """A model behind the protocol's ModelInfer, a call for each request, which is packed once for each text."""

    threads = False

    def __init__(self, spec: Spec, address: str, model: str, options: OipOptions) -> None:
        import grpc

        from embedge.oip import grpc_service_pb2 as pb

        self._pb, self._spec, self._address, self._options = pb, spec, address, options
        self._channel = grpc.insecure_channel(address)
        self._infer: Any = self._channel.unary_unary(
            f"{_SERVICE}ModelInfer", response_deserializer=pb.ModelInferResponse.FromString
        )
        self._packed = lru_cache(_PACKED)(self._pack)
        self.processes = listening(address) if options.pid is None else (options.pid,)
        try:
            metadata = self._method("ModelMetadata", pb.ModelMetadataRequest, pb.ModelMetadataResponse)
            self._metadata = self._call(metadata, pb.ModelMetadataRequest(name=model), _OPEN_SECONDS)
            self._input = self._pick(self._metadata.inputs, options.input, {"BYTES"}, "input")
            self._output = self._pick(self._metadata.outputs, options.output, set(_DTYPES), "output")
        except BaseException:
            self._channel.close()
            raise

    def info(self) -> TargetInfo:
        """Describe the target."""
        found = self._metadata
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind="Open Inference Protocol",
            model=found.name,
            version=", ".join(found.versions),
            backend=found.platform,
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors."""
        return self._answer(self._call(self._infer, self._packed(tuple(texts)), timeout), len(texts))

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply]:
        """Return a future of the vectors."""
        call = self._infer.future(self._packed(tuple(texts)), timeout=timeout)
        return follow(call, lambda: self._answer(self._result(call.result), len(texts)))

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _pack(self, texts: tuple[str, ...]) -> bytes:
        raw = [text.encode() for text in texts]
        shape = [len(texts)] + [1] * (len(self._input.shape) - 1)
        request = self._pb.ModelInferRequest(
            model_name=self._metadata.name,
            inputs=[self._pb.ModelInferRequest.InferInputTensor(name=self._input.name, datatype="BYTES", shape=shape)],
            outputs=[self._pb.ModelInferRequest.InferRequestedOutputTensor(name=self._output.name)],
            raw_input_contents=[b"".join(len(text).to_bytes(4, "little") + text for text in raw)],
        )
        if self._options.truncate:
            request.parameters["truncate"].bool_param = True
        return request.SerializeToString()

    def _answer(self, reply: pb.ModelInferResponse, rows: int) -> TargetReply:
        names = [output.name for output in reply.outputs]
        if self._output.name not in names:
            raise InvalidInput(f"target {self._spec.text!r}: the reply lacks output {self._output.name!r}")
        place = names.index(self._output.name)
        tensor = reply.outputs[place]
        if reply.raw_output_contents:
            values = np.frombuffer(reply.raw_output_contents[place], dtype=_DTYPES[tensor.datatype])
        else:
            values = np.array(tensor.contents.fp32_contents or tensor.contents.fp64_contents, dtype=np.float32)
        return TargetReply(values.reshape(rows, -1))

    def _method(self, name: str, request: Any, reply: Any) -> Any:
        return self._channel.unary_unary(_SERVICE + name, request.SerializeToString, reply.FromString)

    def _call(self, method: Any, request: Any, timeout: float | None) -> Any:
        return self._result(lambda: method(request, timeout=timeout))

    def _result(self, call: Callable[[], Any]) -> Any:
        """Return the result of a call. Raises EmbedgeError."""
        import grpc

        from embedge.wire.status import error_of

        try:
            return call()
        except grpc.RpcError as error:
            raise error_of(error, address=self._address) from error

    def _pick(self, tensors: Sequence[Any], wanted: str | None, datatypes: set[str], what: str) -> Any:
        """Return the tensor with the given name, or the only one of these types. Raises NotFound."""
        fitting = [tensor for tensor in tensors if tensor.datatype in datatypes]
        if wanted is None and len(fitting) == 1:
            return fitting[0]
        for tensor in fitting:
            if tensor.name == wanted:
                return tensor
        have = ", ".join(f"{tensor.name} ({tensor.datatype})" for tensor in tensors) or "none"
        raise NotFound(f"target {self._spec.text!r}: name the text {what} with ?{what}=…; the model has: {have}")


def make(spec: Spec) -> Oip:
    """Connect. Raises Unavailable, NotFound."""
    address, model = spec.host()
    if not model:
        raise InvalidInput(f"target {spec.text!r} must name a model, as in oip://localhost:8001/minilm")
    return Oip(spec, address, model, spec.convert(OipOptions))

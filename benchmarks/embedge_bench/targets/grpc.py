"""Ours over gRPC, a call for each request: `grpc://HOST:PORT/MODEL`."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from functools import lru_cache
from typing import Any

from embedge.errors import NotFound
from embedge_bench.processes import listening
from embedge_bench.results import CostCells, TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.ask import Ask, answer
from embedge_bench.targets.base import Counters, Target, TargetReply, follow

__all__ = ["Grpc", "make"]

_METHOD = "/embedge.v1.Embedge/Embed"
_OPEN_SECONDS = 10.0
_PACKED = 4096  # requests kept as bytes


class Grpc(Target):
    """A server's model, through our public client. `submit` packs each text only once."""

    kind = "embedge gRPC"
    threads = False

    def __init__(self, spec: Spec, address: str, model: str, ask: Ask) -> None:
        import grpc

        from embedge.client import Client
        from embedge.v1.embedge_pb2 import EmbedReply

        self._spec = spec
        self._ask = ask
        self._client = Client(address, timeout=_OPEN_SECONDS)
        self._channel = grpc.insecure_channel(address)
        self._method: Any = self._channel.unary_unary(_METHOD, response_deserializer=EmbedReply.FromString)
        self._packed = lru_cache(_PACKED)(self._pack)
        self.processes = listening(address)
        try:
            self._model = self._client.model(model or self._only())
        except BaseException:
            Grpc.close(self)
            raise
        self._client.timeout = None

    def info(self) -> TargetInfo:
        """Describe the target."""
        model = self._model
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind=self.kind,
            model=model.name,
            version=model.version,
            backend=model.backend,
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors."""
        return answer(self._client.run(self._model.name, self._ask.request(texts, timeout)))

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply]:
        """Return a future of the vectors, over a second connection: the client's only blocks."""
        call = self._method.future(self._packed(tuple(texts)), timeout=timeout)
        return follow(call, lambda: self._read(call))

    def counters(self) -> Counters:
        """Return the server's counters."""
        return Counters.of(self._client.stats(self._model.name).figures)

    def costs(self) -> CostCells:
        """Return the server's cost table as it is now."""
        cost = self._client.stats(self._model.name).cost
        width = len(cost.lengths)
        lines = tuple(tuple(cost.seconds[at : at + width]) for at in range(0, len(cost.seconds), width))
        return CostCells(rows=tuple(cost.rows), lengths=tuple(cost.lengths), seconds=lines)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._channel.close()

    def _pack(self, texts: tuple[str, ...]) -> bytes:
        from embedge.wire.convert import request_to_proto

        return request_to_proto(self._model.name, self._ask.request(texts, None)).SerializeToString()

    def _read(self, call: Any) -> TargetReply:
        import grpc

        from embedge.wire.convert import reply_from_proto
        from embedge.wire.status import error_of

        try:
            return answer(reply_from_proto(call.result()))
        except grpc.RpcError as error:
            raise error_of(error, address=self._client.address) from error

    def _only(self) -> str:
        names = [model.name for model in self._client.models()]
        if len(names) != 1:
            raise NotFound(f"target {self._spec.text!r} must name a model; the server has: {', '.join(names)}")
        return names[0]


def make(spec: Spec) -> Grpc:
    """Connect. Raises Unavailable, NotFound."""
    address, model = spec.host()
    return Grpc(spec, address, model, spec.convert(Ask))

"""Ours over gRPC, a call for each request: `grpc://HOST:PORT/MODEL`."""

from __future__ import annotations

from collections.abc import Sequence

from embedge.errors import NotFound
from embedge_bench.processes import listening
from embedge_bench.results import CostCells, TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.ask import Ask, answer
from embedge_bench.targets.base import Answer, Counters, Target

__all__ = ["Grpc", "make"]

_OPEN_SECONDS = 10.0


class Grpc(Target):
    """A server's model, through the client that users have."""

    kind = "embedge gRPC"

    def __init__(self, spec: Spec, address: str, model: str, ask: Ask) -> None:
        from embedge.client import Client

        self._spec = spec
        self._ask = ask
        self._client = Client(address, timeout=_OPEN_SECONDS)
        self.processes = listening(address)
        try:
            self._model = self._client.model(model or self._only())
        except BaseException:
            self._client.close()
            raise
        self._client.timeout = None

    def info(self) -> TargetInfo:
        """Return what it is."""
        model = self._model
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind=self.kind,
            model=model.name,
            version=model.version,
            backend=model.backend,
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> Answer:
        """Return the vectors."""
        return answer(self._client.run(self._model.name, self._ask.request(texts, timeout)))

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
        """Close the connection."""
        self._client.close()

    def _only(self) -> str:
        names = [model.name for model in self._client.models()]
        if len(names) != 1:
            raise NotFound(f"target {self._spec.text!r} must name a model; the server has: {', '.join(names)}")
        return names[0]


def make(spec: Spec) -> Grpc:
    """Connect. Raises Unavailable, NotFound."""
    address, model = spec.host()
    return Grpc(spec, address, model, spec.convert(Ask))

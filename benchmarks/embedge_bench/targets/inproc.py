"""Ours, in process: `inproc:PATH?lanes=2&lengths=16,64`, with any field of the runtime's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future

from embedge.config import RuntimeConfig
from embedge.embedder import Embedder
from embedge_bench.results import CostCells, TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.ask import Ask, answer
from embedge_bench.targets.base import Answer, Counters, Target, follow

__all__ = ["InProcess", "make"]

_LISTS = ("towers", "lengths")


class InProcess(Target):
    """An embedder called from the load generator's own threads."""

    def __init__(self, spec: Spec, embedder: Embedder, ask: Ask) -> None:
        self._spec = spec
        self._embedder = embedder
        self._ask = ask

    def info(self) -> TargetInfo:
        """Return what it is."""
        embedder = self._embedder
        return TargetInfo(
            name=self._spec.name,
            spec=self._spec.text,
            kind="embedge in process",
            model=embedder.name,
            version=embedder.version,
            backend=embedder.backend,
            in_process=True,
        )

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> Answer:
        """Return the vectors."""
        return answer(self._embedder.run(self._ask.request(texts, timeout)))

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[Answer]:
        """Return a future of the vectors."""
        source = self._embedder.submit(self._ask.request(texts, timeout))
        return follow(source, lambda: answer(source.result()))

    def counters(self) -> Counters:
        """Return the embedder's counters."""
        return Counters.of(self._embedder.stats())

    def costs(self) -> CostCells:
        """Return the cost table as it is now."""
        cost = next(iter(self._embedder.costs.values()))
        return CostCells(rows=tuple(cost.rows), lengths=tuple(cost.lengths), seconds=tuple(map(tuple, cost.grid)))

    def close(self) -> None:
        """Close the embedder."""
        self._embedder.close()


def make(spec: Spec) -> InProcess:
    """Open the bundle. Raises EmbedgeError."""
    fields = set(RuntimeConfig.__struct_fields__)
    given = {key: value for key, value in spec.options.items() if key in fields}
    lists = {key: value.split(",") for key, value in given.items() if key in _LISTS}
    config = spec.convert(RuntimeConfig, {**given, **lists})
    ask = spec.convert(Ask, {key: value for key, value in spec.options.items() if key not in fields})
    return InProcess(spec, Embedder.open(spec.rest, config=config), ask)

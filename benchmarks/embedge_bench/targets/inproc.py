"""Ours, in process: `inproc:PATH?lanes=2&lengths=16,64`, with any field of the runtime's configuration.

`trace=FILE` writes a trace, as `embedge serve --trace` does; `serve:PATH?trace=FILE` works the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path

from embedge import trace
from embedge.config import RuntimeConfig
from embedge.embedder import Embedder
from embedge_bench.results import CostCells, TargetInfo
from embedge_bench.targets import Spec
from embedge_bench.targets.ask import Ask, answer
from embedge_bench.targets.base import Counters, Target, TargetReply, follow

__all__ = ["InProcess", "make"]

_LISTS = ("towers", "lengths")


class InProcess(Target):
    """An embedder called from the load generator's threads."""

    def __init__(self, spec: Spec, embedder: Embedder, ask: Ask, end: ExitStack) -> None:
        """`end`: what ends with it."""
        self._spec = spec
        self._end = end
        self._embedder = embedder
        self._ask = ask

    def info(self) -> TargetInfo:
        """Describe the target."""
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

    def embed(self, texts: Sequence[str], timeout: float | None = None) -> TargetReply:
        """Return the vectors."""
        return answer(self._embedder.run(self._ask.request(texts, timeout)))

    def submit(self, texts: Sequence[str], timeout: float | None = None) -> Future[TargetReply]:
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
        self._end.close()


def make(spec: Spec) -> InProcess:
    """Open the bundle. Raises EmbedgeError."""
    fields = set(RuntimeConfig.__struct_fields__)
    given = {key: value for key, value in spec.options.items() if key in fields}
    lists = {key: value.split(",") for key, value in given.items() if key in _LISTS}
    config = spec.convert(RuntimeConfig, {**given, **lists})
    rest = {key: value for key, value in spec.options.items() if key not in fields}
    file = rest.pop("trace", None)
    ask = spec.convert(Ask, rest)
    with ExitStack() as stack:
        stack.enter_context(trace.record(Path(file) if file else None))
        embedder = stack.enter_context(Embedder.open(spec.rest, config=config))
        return InProcess(spec, embedder, ask, stack.pop_all())

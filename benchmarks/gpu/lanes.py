"""Lanes fed directly, to measure the GPU side of embedge without scheduler and tokenizer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.cases import model_of
from embedge import backends
from embedge.backends import Arrays, DeviceSlot
from embedge.config import RuntimeConfig
from embedge.lanes.program import Computed, Program

__all__ = ["Lanes", "Vectors", "Way"]

Vectors = NDArray[np.generic]


class Way(Protocol):
    """An implementation to measure. Any thread may call it, one at a time."""

    name: str

    def run(self, batches: Sequence[Arrays]) -> list[Vectors]:
        """Wait for all batches, given as arrays on the host, and return the vectors of each, `(rows, dim)`."""
        ...

    def close(self) -> None:
        """Free its resources."""
        ...


class Lanes:
    """Lanes of a backend, each with several batches in flight. Batches are dealt out in turn."""

    def __init__(
        self,
        backend: str,
        path: Path,
        *,
        lanes: int = 1,
        max_in_flight: int | None = None,
        cuda_graphs: int = 32,
        name: str = "",
        cuda: str = "auto",
    ) -> None:
        """Open the lanes; raises as `backends.ready`. `max_in_flight`: None for the backend's default."""
        config = RuntimeConfig(backend=backend, cuda_graphs=cuda_graphs, lanes=lanes, warm_up_seconds=0, cuda=cuda)
        self.name = name or f"embedge, {backend}"
        self.model = model_of(path, config)
        self._backend, _ = backends.ready(self.model)
        self._max_in_flight = max_in_flight or self._backend.max_in_flight
        self.version = self._backend.version()
        self.length_multiple = self._backend.length_multiple
        # A thread for each lane, owned here: it opens, uses and closes what it has.
        self._threads = [ThreadPoolExecutor(1, "embedge-gpu") for _ in range(lanes)]
        self._open: list[tuple[DeviceSlot, Program]] = []
        try:
            for thread in self._threads:
                self._open.append(thread.submit(self._enter).result())
        except BaseException:
            self.close()
            raise

    def run(self, batches: Sequence[Arrays]) -> list[Vectors]:
        """Return the vectors of each batch, `(rows, dim)`."""
        lanes = len(self._threads)
        jobs = [
            thread.submit(self._work, program, batches[number::lanes])
            for number, (thread, (_, program)) in enumerate(zip(self._threads, self._open, strict=True))
        ]
        shares = [job.result() for job in jobs]
        return [shares[number % lanes][number // lanes] for number in range(len(batches))]

    def close(self) -> None:
        """Close the lanes, each in its thread."""
        try:
            for thread, (slot, program) in zip(self._threads, self._open, strict=False):
                thread.submit(_leave, slot, program).result()
        finally:
            for thread in self._threads:
                thread.shutdown()
            self._backend.close()

    def _enter(self) -> tuple[DeviceSlot, Program]:
        bundle = self.model.bundle
        slot = self._backend.slot(threads=1, wake=lambda: None)
        opened: dict[str, Any] = {}
        try:
            for name in self.model.graphs:
                opened[name] = slot.open(name, bundle.graph(name))
        except BaseException:
            for session in opened.values():
                session.close()
            slot.close()
            raise
        return slot, Program(bundle.manifest, opened)

    def _work(self, program: Program, batches: Sequence[Arrays]) -> list[Vectors]:
        """Run batches with up to `max_in_flight` in flight, in a lane's thread, which waits for the results, too."""
        (tower,) = self.model.probes.towers
        output = next(iter(self.model.bundle.manifest.towers[tower].outputs.values()))
        pending: deque[Callable[[], Computed]] = deque()
        found = []

        def finish() -> None:
            _, arrays = pending.popleft()()[tower]
            found.append(arrays[output.tensors[0]])

        for feeds in batches:
            if len(pending) == self._max_in_flight:
                finish()
            pending.append(program.start([tower] * len(next(iter(feeds.values()))), feeds))
        while pending:
            finish()
        return found


def _leave(slot: DeviceSlot, program: Program) -> None:
    try:
        program.close()
    finally:
        slot.close()

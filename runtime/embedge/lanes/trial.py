"""Measures which lane split runs typical work fastest."""

from __future__ import annotations

from collections.abc import Sequence

from embedge.backends import Backend, BackendModel
from embedge.backends.cores import LaneSplit, choose
from embedge.batches.batch import Batch
from embedge.lanes.executors import ExecutorFactory

__all__ = ["measure_splits"]


def measure_splits(model: BackendModel, backend: Backend, batches: Sequence[Batch]) -> LaneSplit:
    """Run batches with each of the backend's lane splits and return the fastest.

    Raises what the backend raises.

    Args:
        model: What the backend opens.
        backend: Lists the candidates and opens their slots.
        batches: Typical work, run repeatedly and all at once in every lane.
    """
    options = backend.candidates()
    factories = {
        split: ExecutorFactory(model, backend, threads=split.threads, share=backend.shares) for split in options
    }
    return choose(options, lambda split: _Trial(factories[split], batches))


class _Trial:
    """Runs the batches repeatedly in the calling thread, all in flight at once."""

    def __init__(self, executors: ExecutorFactory, batches: Sequence[Batch]) -> None:
        self._executors = executors
        self._executor = executors.open(lambda: None)
        self._batches = batches

    def __call__(self) -> int:
        started = [self._executor.start(batch) for batch in self._batches]
        for finish in started:
            finish()
        return 1

    def close(self) -> None:
        self._executors.close(self._executor)

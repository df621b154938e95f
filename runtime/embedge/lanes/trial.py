"""The trial: typical work in each way to cut the machine into lanes, for the measured choice."""

from __future__ import annotations

from collections.abc import Sequence

from embedge.backends import Backend, BackendModel
from embedge.backends.cores import LaneSplit, choose
from embedge.batches.batch import Batch
from embedge.lanes.executors import ExecutorFactory

__all__ = ["measure_splits"]


def measure_splits(model: BackendModel, backend: Backend, batches: Sequence[Batch]) -> LaneSplit:
    """Return the backend's cut that runs these batches fastest on all lanes. Raises what the backend raises."""
    options = backend.candidates()
    racks = {each: ExecutorFactory(model, backend, threads=each.threads, share=backend.shares) for each in options}
    return choose(options, lambda slots: _Trial(racks[slots], batches))


class _Trial:
    """The batches, over and over, at a post in the calling thread; as many at once as a lane may have in flight."""

    def __init__(self, rack: ExecutorFactory, batches: Sequence[Batch]) -> None:
        self._rack = rack
        self._post = rack.enter(lambda: None)
        self._batches = batches

    def __call__(self) -> int:
        begun = [self._post.start(batch) for batch in self._batches]
        for finish in begun:
            finish()
        return 1

    def close(self) -> None:
        self._rack.exit(self._post)

"""The post: what a lane works at. Its slot, the model's sessions, and how batches are laid out for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedge.backends import Arrays, DeviceSlot
from embedge.batches.batch import Batch
from embedge.lanes.outcome import Group
from embedge.lanes.program import Computed, Program

__all__ = ["Executor"]


@dataclass(frozen=True)
class Executor:
    """Opened, used and closed in the lane's thread; `finish` may run in the one that waits for its results.

    feeds: a batch as input arrays, padded.
    """

    slot: DeviceSlot
    program: Program
    feeds: Callable[[Batch], Arrays]

    def start(self, batch: Batch) -> Callable[[], Computed]:
        """Begin to compute a batch; what is returned waits for it, and is to be called once."""
        return self.program.start(batch.towers, self.feeds(batch))

    def compute(self, batch: Batch) -> Computed:
        """Compute a batch and wait for it."""
        return self.start(batch)()

    def groups(self, computed: Computed) -> list[Group]:
        """Return a group for each tower of a computed batch."""
        return [
            Group(rows, arrays, self.program.good(tower, len(rows), arrays))
            for tower, (rows, arrays) in computed.items()
        ]

    def test(self, probe: Batch) -> None:
        """Raise unless the probe comes out as the manifest says, and finite."""
        for tower, (rows, arrays) in self.compute(probe).items():
            self.program.check(tower, len(rows), arrays)

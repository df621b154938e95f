"""What a lane computes with: a device slot, the model's sessions, and the layout of batches."""

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
    """Opened, used and closed in the lane's thread. A started batch may be finished in the thread for results.

    Attributes:
        slot: The lane's share of the device.
        program: The model's sessions, in the order of its steps.
        feeds: Turns a batch into padded input arrays, each (rows, …).
    """

    slot: DeviceSlot
    program: Program
    feeds: Callable[[Batch], Arrays]

    def start(self, batch: Batch) -> Callable[[], Computed]:
        """Start a batch.

        Returns:
            A function that waits for the results. Call it once.
        """
        return self.program.start(batch.towers, self.feeds(batch))

    def compute(self, batch: Batch) -> Computed:
        """Compute a batch and wait for it."""
        return self.start(batch)()

    def groups(self, computed: Computed) -> list[Group]:
        """Return one group for each tower of a computed batch."""
        return [
            Group(rows, arrays, self.program.good(tower, len(rows), arrays))
            for tower, (rows, arrays) in computed.items()
        ]

    def test(self, probe: Batch) -> None:
        """Compute a probe and check its outputs.

        Raises:
            BundleError: A tensor does not match the manifest.
            ArithmeticError: A value is not finite.
        """
        for tower, (rows, arrays) in self.compute(probe).items():
            self.program.check(tower, len(rows), arrays)

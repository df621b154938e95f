"""How many lanes are tried on a GPU: as many as fit at once, and one on a small GPU."""

from __future__ import annotations

import pytest

from embedge import RuntimeConfig, cuda
from embedge.backends.gpu import policy
from tests.simulated.device import Device
from tests.simulated.fixtures import Simulate, simulate

__all__ = ["simulate"]

GIB = 1 << 30


@pytest.mark.parametrize(
    ("memory", "taken", "small", "most"),
    [
        (80, 0, None, 3),
        (80, 0, True, 1),
        (8, 0, None, 1),
        (8, 0, False, 3),
        (80, 77, None, 2),  # three are open at once while one lane and two are measured
        (80, 78, None, 1),
        (80, 80, None, 1),  # it will say itself that there is no room
    ],
)
def test_lanes_are_tried_as_far_as_all_have_room_at_once(
    simulate: Simulate, memory: int, taken: int, small: bool | None, most: int
) -> None:
    machine = simulate("cuda-python", device=Device(memory=memory * GIB))
    machine.memory.taken = taken * GIB
    tried = policy.lane_splits(cuda.choose(), RuntimeConfig(small_memory=small), GIB)
    assert [(slots.lanes, slots.threads) for slots in tried] == [(number, 1) for number in range(1, most + 1)]
    assert machine.contexts.stack == [], "this thread has let go of the GPU again"

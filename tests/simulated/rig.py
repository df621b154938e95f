"""A lane by hand, over the machine itself: what the tests of its rules break."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.simulated.machine import Machine
from tests.simulated.memory import Region

__all__ = ["COUNT", "Lane", "entered"]

COUNT = 8  # floats in each buffer
NBYTES = 4 * COUNT


def entered(**settings: Any) -> Machine:
    """Return a machine whose primary context is current in the calling thread."""
    machine = Machine(**settings)
    machine.init()
    machine.contexts.push(machine.retain().handle)
    return machine


@dataclass
class Lane:
    """A stream, an event, and buffers for a kernel that doubles floats."""

    machine: Machine

    def __post_init__(self) -> None:
        self.stream = self.machine.stream().handle
        self.event = self.machine.event().handle
        self.source = self.machine.pin(NBYTES, mapped=True)
        self.result = self.machine.pin(NBYTES, mapped=True)
        self.memory = [self.machine.allocate(NBYTES) for _ in range(2)]

    @property
    def kept(self) -> Sequence[Region]:
        return (self.source, self.result, *self.memory)

    def fill(self, value: float) -> None:
        floats(self.source)[:] = value

    def copy_in(self) -> None:
        self.machine.copy_in(self.memory[0].base, self.source.host, NBYTES, self.stream)

    def compute(self, seconds: float = 0.0) -> None:
        double(self.machine, self.stream, self.memory[0].base, self.memory[1].base, seconds)

    def copy_out(self) -> None:
        self.machine.copy_out(self.result.host, self.memory[1].base, NBYTES, self.stream)

    def record(self) -> None:
        self.machine.record(self.event, self.stream)

    def begin(self, value: float, seconds: float = 0.0) -> None:
        """Enqueue a whole batch."""
        self.fill(value)
        self.copy_in()
        self.compute(seconds)
        self.copy_out()
        self.record()

    def wait(self) -> NDArray[np.float32]:
        """Wait for the event; return the result."""
        self.machine.synchronise(self.event)
        return floats(self.result)

    def close(self) -> None:
        self.machine.destroy_event(self.event)
        self.machine.destroy_stream(self.stream)
        for region in self.memory:
            self.machine.free(region.base)
        for region in (self.source, self.result):
            self.machine.free(region.host, host=True)


def floats(region: Region) -> NDArray[np.float32]:
    """Return pinned memory as the host sees it."""
    return region.data.view(np.float32)


def double(machine: Machine, stream: int, source: int, target: int, seconds: float = 0.0) -> None:
    def run() -> None:
        machine.write(target, 2 * machine.read(source, (COUNT,), np.float32))

    machine.enqueue(stream, "compute", run, [(source, NBYTES)], [(target, NBYTES)], seconds, "double")

"""Fixtures. A conftest.py, or a test module, imports those that its tests use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from tests.simulated.install import simulated
from tests.simulated.machine import Machine

__all__ = ["ORDERS", "Simulate", "simulate"]

# For parametrize("order, seed", ORDERS): the two extremes, and some in between.
ORDERS = [("late", 0), ("eager", 0), *(("random", seed) for seed in range(5))]


class Simulate(Protocol):
    """Makes a machine and installs it: order, seed and device are the machine's."""

    def __call__(self, *providers: str, tensorrt: str = "", **machine: Any) -> Machine: ...


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    """A way to have one simulated GPU in a test; it fails the test if a rule was broken or something leaked."""
    with ExitStack() as stack:

        def start(*providers: str, tensorrt: str = "", **machine: Any) -> Machine:
            return stack.enter_context(simulated(Machine(**machine), *providers, tensorrt=tensorrt))

        yield start

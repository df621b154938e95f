"""Each provider over the simulated GPU, entered by the thread of the test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from embedge.cuda import Driver
from tests.runtime.cuda.rig import provider
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.install import PROVIDERS
from tests.simulated.machine import Machine

__all__ = ["simulate"]


@pytest.fixture(params=PROVIDERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def machine(name: str, simulate: Simulate) -> Machine:
    return simulate(name)


@pytest.fixture
def driver(name: str, machine: Machine) -> Iterator[Driver]:
    made = provider(name)
    assert made.missing() == ""
    made.enter()
    yield made
    made.leave()

"""What the classes of one simulated TensorRT have in common."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

from tests.simulated.machine import Machine

__all__ = ["State", "Troubles"]


@dataclass
class Troubles:
    """What goes wrong, to be planned by a test.

    parse: errors of the parser, each (node, name, operator, description). memory: builds run out of it. endless:
    builds go on until they are cancelled. silent: builds fail and say nothing. crash: builds end the process.
    wrong: up to this much is added to every row of float outputs. company: and to all rows but the first. replayed:
    and where it was captured. stale: what is captured computes with its first inputs for ever. nan: outputs are
    NaN. single: engines compute in float32, whatever the graph says. dtype: outputs of engines have this DataType.
    full: engines find no memory. seconds: a run takes, in virtual time.
    """

    parse: list[tuple[int, str, str, str]] = field(default_factory=list)
    memory: bool = False
    endless: bool = False
    silent: bool = False
    crash: bool = False
    wrong: float = 0.0
    company: float = 0.0
    nan: bool = False
    replayed: float = 0.0
    stale: bool = False
    single: bool = False
    dtype: str = ""
    full: bool = False
    seconds: float = 0.0

    def to_json(self) -> str:
        """Return them as a child process reads them."""
        return json.dumps(asdict(self))


@dataclass
class State:
    """The module under construction, its machine, and counts of what was done."""

    machine: Machine
    version: str
    module: ModuleType
    troubles: Troubles
    loggers: list[Any] = field(default_factory=list)
    builds: int = 0
    engines: int = 0
    contexts: int = 0
    shapes: set[tuple[tuple[str, tuple[int, ...]], ...]] = field(default_factory=set)  # of the inputs of all runs
    switches: int = 0  # of profiles, in contexts that had run
    building: threading.Event = field(default_factory=threading.Event)  # set once a build has begun

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])

    @property
    def device(self) -> list[Any]:
        """What a plan is for."""
        device = self.machine.device
        return [device.name, list(device.capability), device.multiprocessors]

"""A simulated TensorRT: real numbers by ONNX Runtime on the CPU, and the rules of the real one, enforced.

A module is built for a machine and a version, and has what that version has, and no more. Rules that the real one
answers with False, None or wrong numbers are answered so here, too, and most are violations of the machine.
"""

from __future__ import annotations

import json
import os
from types import ModuleType

from tests.simulated.machine import Machine
from tests.simulated.tensorrt.building import building
from tests.simulated.tensorrt.enums import enums
from tests.simulated.tensorrt.running import running
from tests.simulated.tensorrt.said import saying
from tests.simulated.tensorrt.state import State, Troubles

__all__ = ["Troubles", "build"]


def build(machine: Machine, version: str, troubles: Troubles | None = None) -> ModuleType:
    """Return the module `tensorrt` of a version, 10.3.0, 10.16.1, 11.4.0 or any other.

    troubles: by default those in EMBEDGE_SIMULATED_TROUBLES, in JSON, by which a child process is told of them. The
    module has them as `_troubles`; its `_state` counts what was made.
    """
    module = ModuleType("tensorrt")
    planned = troubles or Troubles(**json.loads(os.environ.get("EMBEDGE_SIMULATED_TROUBLES", "{}")))
    state = State(machine, version, module, planned)
    members = {**enums(state.major), **saying(state)}
    vars(module).update(members)
    vars(module).update(building(state))
    vars(module).update(running(state))
    vars(module).update(__version__=version, _state=state, _troubles=state.troubles)
    return module

"""One simulated GPU for this process. The packages beside this file put its modules in their own place.

With this folder on PYTHONPATH, EMBEDGE_SIMULATED says what there is, in JSON: {"providers": ["cuda-python"],
"tensorrt": "11.4.0", "order": "random", "seed": 1, "device": {"name": …}}; whatever is not said is as in `Machine`.
Broken rules are told on stderr at the end, and the exit code is 99.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3]))

from tests.simulated.device import Device
from tests.simulated.install import modules, place, told
from tests.simulated.machine import Machine

BROKEN = 99
_settings = json.loads(os.environ.get("EMBEDGE_SIMULATED", "{}"))
_device = Device(**_settings.get("device", {}))
machine = Machine(order=_settings.get("order", "late"), seed=_settings.get("seed", 0), device=_device)
_modules = modules(machine, *_settings.get("providers", ()), tensorrt=_settings.get("tensorrt", ""))


def become(name: str) -> None:
    """Put the simulated modules where Python looks for them; ImportError if there is none of this name."""
    if _modules[name] is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    place({each: module for each, module in _modules.items() if module is not None}, sys.modules)


@atexit.register
def _tell() -> None:
    if machine.violations:  # leaks do not count: the process ends
        sys.stderr.write(told(machine.violations) + "\n")
        sys.stderr.flush()
        os._exit(BROKEN)

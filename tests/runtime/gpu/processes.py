"""Commands in processes of their own, each with a simulated GPU, or without one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.simulated.tensorrt.state import Troubles
from tests.structure.code import ROOT

__all__ = ["FULL", "TEXT", "Machine", "embedded", "on_the_processor"]

FULL: dict[str, Any] = {"providers": ["cuda-python"], "tensorrt": "11.4.0"}
TEXT = "a red cat\n"
_LONG = 120.0  # seconds after which a test that went wrong ends


class Machine:
    """Starts commands, in a folder with the models, with a cache that they share."""

    def __init__(self, engines: Path, cache: Path) -> None:
        self.cache = cache
        self._engines = engines

    def start(
        self, *arguments: str, troubles: Troubles | None = None, cache: Path | None = None, **machine: Any
    ) -> subprocess.Popen[str]:
        """Start a command. machine: what the simulated one has, see `tests/simulated/site`."""
        said = {
            "EMBEDGE_SIMULATED": json.dumps({**FULL, **machine}),
            "EMBEDGE_SIMULATED_TROUBLES": (troubles or Troubles()).to_json(),
            "PYTHONPATH": os.pathsep.join((str(ROOT / "tests" / "simulated" / "site"), str(ROOT))),
        }
        return _started(self._engines, cache or self.cache, arguments, said)

    def ended(self, *arguments: str, **more: Any) -> tuple[int, str]:
        """Run a command; return its exit code and what it said on both streams."""
        process = self.start(*arguments, **more)
        out, said = process.communicate(timeout=_LONG)
        return process.returncode, out + said


def embedded(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Give `embedge embed` a text; return the vector that comes, and what was said."""
    out, said = process.communicate(TEXT, timeout=_LONG)
    assert process.returncode == 0, said
    return out, said


def on_the_processor(engines: Path, cache: Path) -> str:
    """Return the vector from a process that knows of no GPU."""
    return embedded(_started(engines, cache, ("embed", "tiny"), {}))[0]


def _started(engines: Path, cache: Path, arguments: tuple[str, ...], said: Mapping[str, str]) -> subprocess.Popen[str]:
    command = (sys.executable, "-W", "error", "-m", "embedge.cli", *arguments)
    pipe, places = subprocess.PIPE, {"EMBEDGE_CACHE": str(cache), "COLUMNS": "240"}
    return subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=engines, env={**os.environ, **places, **said}
    )

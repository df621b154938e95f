"""The doctor's view of a machine. Tests give it folders and command output of other machines."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata, util
from pathlib import Path

from embedge import cache

__all__ = ["Machine", "here", "python"]

_SECONDS = 30.0  # a longer command counts as hung


@dataclass(frozen=True)
class Machine:
    """Access to one machine for all probes.

    Attributes:
        root: The root of its file system.
        run: Returns the output of a command. Raises OSError if it is missing, TimeoutError if it hangs, and
            RuntimeError with its last line if it fails.
        version: Returns the version of an installed package, or an empty string.
        finds: Returns whether a module can be imported.
    """

    root: Path
    run: Callable[[Sequence[str]], str]
    version: Callable[[str], str]
    finds: Callable[[str], bool]
    arch: str = field(default_factory=platform.machine)
    python: str = field(default_factory=platform.python_version)
    prefix: Path = field(default_factory=lambda: Path(sys.prefix))
    cache: Path = field(default_factory=cache.directory)

    def read(self, path: str) -> str:
        """Return the text of a file without blanks at its ends; empty where it is not there."""
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0 \n")
        except OSError:
            return ""

    @property
    def jetson(self) -> str:
        """The release of a Jetson's Linux, as 36.4.3; empty on other machines."""
        words = self.read("etc/nv_tegra_release").replace(",", " ").split()
        if "REVISION:" not in words or len(words) < 2:
            return ""
        return f"{words[1].removeprefix('R')}.{words[words.index('REVISION:') + 1]}"


def here() -> Machine:
    """Return this machine."""
    return Machine(root=Path("/"), run=_run, version=_version, finds=lambda name: util.find_spec(name) is not None)


def python(code: str) -> list[str]:
    """Return a command to run code in a new Python without the working directory on its path."""
    return [sys.executable, "-c", f"import sys; sys.path[:] = filter(None, sys.path)\n{code}"]


def _run(command: Sequence[str]) -> str:
    environment = os.environ | {"LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment)
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{command[0]} gave no answer within {_SECONDS:g} s") from error
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines() or [_ended(done.returncode)]
        raise RuntimeError(f"{Path(command[0]).name}: {words[-1]}")
    return done.stdout.strip()


def _ended(code: int) -> str:
    names = {-each.value: each.name for each in signal.Signals}
    return f"crashed with {names[code]}" if code in names else f"exit code {code}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""

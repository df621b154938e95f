"""The built wheel, and an environment that holds it with the base dependencies and `cpu` only."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.structure.code import ROOT


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the hatchling that is installed, so no network is needed."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def bare_site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with what `pip install embedge[cpu]` installs and nothing else: the wheel, and links."""
    site = tmp_path_factory.mktemp("bare")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in _needed("embedge", {"cpu"}):
        for top in {file.parts[0] for file in metadata.files(name) or () if file.parts[0] not in ("..", "__pycache__")}:
            (site / top).symlink_to(metadata.distribution(name).locate_file(top))
    return site


def _needed(name: str, extras: set[str]) -> set[str]:
    """Return the names of all distributions that a distribution with these extras needs, itself left out."""
    needed: set[str] = set()
    waiting = [(name, frozenset(extras))]
    while waiting:
        for text in metadata.requires((each := waiting.pop())[0]) or ():
            wanted = Requirement(text)
            asked = any(wanted.marker is None or wanted.marker.evaluate({"extra": extra}) for extra in (*each[1], ""))
            if asked and (found := canonicalize_name(wanted.name)) not in needed:
                needed.add(found)
                waiting.append((found, frozenset(wanted.extras)))
    return needed


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """Return environment variables without those that would let other packages in, and with a quiet terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "COV"))}
    return kept | {"NO_COLOR": "1", "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}

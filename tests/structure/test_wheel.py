"""The wheel holds our sources and nothing else."""

from __future__ import annotations

import zipfile
from email.parser import Parser
from pathlib import Path

from tests.structure.code import ROOT, SOURCE_ROOTS, files

SUFFIXES = {".css", ".j2", ".js", ".py", ".pyi", ".typed"}
PAGE = {".j2", ".js", ".css"}  # of the benchmark report, and nowhere else
REPORT = ROOT / "benchmarks" / "embedge_bench" / "report"
# Pinned: what is added here is installed everywhere.
BASE = {"msgspec", "numpy", "tokenizers", "tomli", "typer"}
COMMANDS = {"bench", "export", "tune"}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_is_an_allow_list(wheel: Path) -> None:
    info = "embedge-" + wheel.name.split("-")[1] + ".dist-info/"
    about = {info + name for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")}
    sources = {
        path.relative_to(ROOT / root).as_posix()
        for package, root in SOURCE_ROOTS.items()
        for path in files()
        if path.is_relative_to(ROOT / root / package)
        and path.suffix in SUFFIXES | (PAGE if path.parent == REPORT else set())
    }
    assert set(contents(wheel)) == about | sources


def test_every_package_is_marked_as_typed(wheel: Path) -> None:
    assert {f"{package}/py.typed" for package in SOURCE_ROOTS} <= set(contents(wheel))


def test_base_dependencies_are_pinned(wheel: Path) -> None:
    (text,) = (data for name, data in contents(wheel).items() if name.endswith("/METADATA"))
    required = Parser().parsestr(text.decode()).get_all("Requires-Dist", [])
    base = {line.split(";")[0].split(">")[0].split("=")[0].strip() for line in required if "extra ==" not in line}
    assert base == BASE


def test_version_is_the_one_that_the_package_tells(wheel: Path) -> None:
    import embedge

    assert wheel.name.split("-")[1] == embedge.__version__


def test_entry_points(wheel: Path) -> None:
    (text,) = (data.decode() for name, data in contents(wheel).items() if name.endswith("/entry_points.txt"))
    assert "embedge = embedge.cli:main" in text
    group = text.split("[embedge.commands]")[1].split("[")[0]
    assert {line.split("=")[0].strip() for line in group.splitlines() if "=" in line} == COMMANDS

"""A name means one thing in a package, and its units don't import each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.structure.census import (
    arrows,
    floors,
    function_sizes,
    mutual,
    names_defined_twice,
    page,
    prose,
    rates,
    upward,
)
from tests.structure.code import SOURCE_ROOTS, Module, modules


def made(folder: Path, **sources: str) -> list[Module]:
    """Return modules of a package `p` with these sources."""
    found = []
    for name, source in sources.items():
        (path := folder / f"{name}.py").write_text(source, encoding="utf-8")
        found.append(Module("p" if name == "init" else f"p.{name}", path))
    return found


@pytest.mark.parametrize("package", SOURCE_ROOTS)
def test_no_class_or_alias_is_defined_twice(package: str) -> None:
    assert names_defined_twice(modules(package)) == {}


@pytest.mark.parametrize("package", SOURCE_ROOTS)
def test_no_import_runs_up(package: str) -> None:
    drawn = arrows(modules(package))
    assert mutual(drawn) == []
    assert upward(drawn) == set()


def test_classes_and_aliases_count_and_constants_do_not(tmp_path: Path) -> None:
    of = made(tmp_path, a="class Job: ...\nRow = int\nMAX = 1\n", b="class _Job: ...\nRow: type = int\nMAX = 2\n")
    assert names_defined_twice(of) == {"Job": ["p.a", "p.b"], "Row": ["p.a", "p.b"]}


def test_a_cycle_is_found_and_is_not_a_floor(tmp_path: Path) -> None:
    of = made(tmp_path, a="import p.b\n", b="from p.c import x\n", c="from p.b import y\n", init="import p.a\n")
    assert mutual(arrows(of)) == [("p.b", "p.c")]
    assert upward(arrows(of)) == {("p.b", "p.c"), ("p.c", "p.b")}
    assert floors(arrows(of)) == 2


def test_an_import_of_the_package_itself_runs_up(tmp_path: Path) -> None:
    of = made(tmp_path, a="from p import version\n", init="import p.a\n")
    assert upward(arrows(of)) == {("p.a", "p")}


def test_a_function_is_measured_without_its_docstring(tmp_path: Path) -> None:
    (module,) = made(tmp_path, a='def f():\n    """One.\n\n    Two.\n    """\n    return 1\n')
    assert list(function_sizes(module)) == [2]


def test_prose_is_docstrings_and_comments() -> None:
    source = '"""A page."""\nx = "not prose"  # a comment\n\n\ndef f():\n    """Return x."""\n'
    assert sorted(prose(source)) == ["A page.", "Return x.", "a comment"]
    assert page("Read [this](which.md), `that`.\n```python\nwhat = 1\n```\n").split() == ["Read", "[this", ",", "."]


def test_rates_count_words_in_all_their_forms() -> None:
    found = rates(["There is a lane that said what it wanted.\n\nArgs:\n    x: one"])
    assert {name: value * found["words"] / 1000 for name, value in found.items() if name != "words"} == pytest.approx(
        {
            "which/that/who/what per 1000": 2,
            "say/tell/hear/know/want per 1000": 2,
            "there is/are per 1000": 1,
            "is no per 1000": 0,
            "Args/Returns/Raises per 1000": 1,
        },
        abs=0.001,
    )

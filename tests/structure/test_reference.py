"""The generated pages of the reference are as the code is, and the site's navigation names every page."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest

from docs import reference
from tests.structure.code import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.mark.parametrize("name", ["configuration.md", "cli.md"])
def test_generated_page_is_as_the_code_is(name: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page == reference.pages()[name], f"docs/{name} is stale: run `make reference`"


@pytest.mark.parametrize("record", [record for record, _, _ in reference.RECORDS], ids=lambda record: record.__name__)
def test_every_key_is_documented(record: type[Any]) -> None:
    assert list(reference.meanings(record)) == [field.name for field in msgspec.structs.fields(record)]


def test_help_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = reference.commands()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert reference.commands() == wide


def test_navigation_names_every_page_once() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    named = list(leaves(site["project"]["nav"]))
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert sorted(named) == sorted(pages | {"CONTRIBUTING.md"})


def leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for entry in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(entry)]

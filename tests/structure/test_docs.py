"""What people read: every link leads somewhere, and no file speaks of the machine it was written on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.structure.code import ROOT, files

PAGES = [path for path in files() if path.suffix == ".md"]
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
# Written so that the pattern does not match itself.
MACHINE = re.compile(r"/(wor[k]|roo[t]|hom[e]|farm[s]?|Use[r]s|op[t]|tm[p])/[\w.]|pypi\.or[g]|index-ur[l]|find-link[s]")


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as they are made from the words."""
    words = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", word.lower()).replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{page}: {target} leads nowhere"
        assert not anchor or anchor in anchors(linked), f"{page}: {target} has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_a_page_names_are_there(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8")))
    tests = "".join(path.read_text(encoding="utf-8") for path in files() if path.name.startswith("test_"))
    assert named <= set(re.findall(r"^(?:async )?def (test_\w+)", tests, re.MULTILINE))


def test_no_file_names_a_machine() -> None:
    found = []
    for path in files():
        if path.name == "LICENSE":
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:  # a binary file
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not found, "\n".join(found)


def test_pages_that_must_be_there() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    wanted = {
        "README.md",
        "CHANGELOG.md",
        "CODE_OF_CONDUCT.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs/architecture.md",
    }
    wanted |= {f"{root}/README.md" for root in ("runtime", "export", "benchmarks", "engines")}
    assert wanted <= names


@pytest.mark.parametrize(
    ("root", "allowed"),
    [
        ("runtime", {"README.md", "embedge"}),
        ("export", {"README.md", "embedge_export"}),
        # peers: scripts that run in the environments of other servers, where no package of ours is installed
        # gpu: one run over all that a machine with a GPU has; it needs no installed package of ours
        ("benchmarks", {"README.md", "embedge_bench", "gpu", "peers"}),
    ],
)
def test_source_roots_hold_only_their_package_and_a_readme(root: str, allowed: set[str]) -> None:
    inside = {path.relative_to(ROOT / root).parts[0] for path in files() if path.is_relative_to(ROOT / root)}
    assert inside <= allowed


def test_files_that_contributing_names_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:runtime|export|benchmarks|tests|protos|docs)/[\w/.]*)`", page)
    missing = {name for name in named if not (ROOT / name).exists()}
    assert named
    assert not missing

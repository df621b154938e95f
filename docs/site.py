"""Collect the pages of the site in build/pages: those in docs/, and every file of the repository they link to.

Links are written for readers of the repository. In the site docs/ is the root, so links are rewritten to match.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = ROOT / "build" / "pages"
LINK = re.compile(r"(\]\()(?!\w+:)([^)\s#]+)([^)\s]*\))")


def collect() -> None:
    """Fill build/pages, starting with the pages in docs/ and following their links."""
    shutil.rmtree(PAGES, ignore_errors=True)
    todo = [DOCS / "style.css", *sorted(DOCS.glob("*.md"))]
    done: set[Path] = set()
    while todo:
        file = todo.pop()
        if file not in done:
            done.add(file)
            todo += _copy(file)


def _copy(file: Path) -> list[Path]:
    """Copy one file, with its links rewritten if it is a page. Return the files it links to."""
    target = PAGES / _place(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix != ".md":
        shutil.copyfile(file, target)
        return []
    linked: list[Path] = []

    def rewrite(found: re.Match[str]) -> str:
        path = _linked(file.parent / found[2])
        linked.append(path)
        return found[1] + os.path.relpath(_place(path), _place(file).parent) + found[3]

    target.write_text(LINK.sub(rewrite, file.read_text(encoding="utf-8")), encoding="utf-8")
    return linked


def _linked(path: Path) -> Path:
    """Return the file a link leads to: of a directory, its README or first file."""
    path = path.resolve()
    if path.is_dir():
        readme = path / "README.md"
        path = readme if readme.exists() else min(file for file in path.iterdir() if file.is_file())
    if not path.is_file():
        sys.exit(f"docs: {path.relative_to(ROOT)} doesn't exist")
    return path


def _place(file: Path) -> Path:
    """Return a file's path in the site."""
    return file.relative_to(DOCS if file.is_relative_to(DOCS) else ROOT)


if __name__ == "__main__":
    collect()

"""Reads and writes docs/mutations.md: what each mutant removes, and the test that fails then."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from tests.mutations.known import KNOWN
from tests.mutations.mutants import ROOT, Mutant

__all__ = ["Row", "read", "write"]

PAGE = ROOT / "docs" / "mutations.md"
_HEAD = """\
# Mutations of the code around lanes

The guarantees of a lane depend on small details: a wait, an event, a lock, a flag, the order of two frees. This page
lists all of them. Each was removed from the code once, alone, and a test failed: the last column names it. (A test that
*hangs* fails by its time limit.) `make mutations` repeats that and rewrites this page. For a part of the list, pass
words; for mutants that are not on this page yet, pass `--missing`:

    python -m tests.mutations lanes/in_flight.py PipelinedSubmitter.drain
    python -m tests.mutations --missing --write

`tests/mutations/mutants.py` finds the places by their form. A new lock is therefore on the list at once, and a test
fails until this page has it. Races need no luck: `tests/runtime/races.py` stops one thread at each instruction in turn
while the other one runs.

The list covers neither the order of statements nor wrong conditions. Where a lock belongs to a condition, Python itself
raises an error without it. The GPU is simulated.
"""
_KNOWN_HEAD = "\n## Equivalent mutants\n\nNo test can fail without these, for the reason given.\n\n"
_ROW = re.compile(r"^\| (?P<where>\S+) \| `(?P<what>.*)` \| (?P<test>.*) \|$")


@dataclass(frozen=True)
class Row:
    """A mutant's name, and the test that failed; "" if none failed."""

    name: str
    test: str
    hung: bool = False


def read() -> dict[str, Row]:
    """Return the rows of the page, by the name of the mutant."""
    rows: dict[str, Row] = {}
    file = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines() if PAGE.exists() else ():
        if line.startswith("## `"):
            file = line.split("`")[1]
        elif (found := _ROW.match(line)) and file:
            what, test = (found[each].replace("\\|", "|") for each in ("what", "test"))
            name = f"{file} {found['where']}: {what}"
            rows[name] = Row(name, test.removesuffix(" *hangs*").strip("`"), test.endswith("*hangs*"))
    return rows


def write(every: Iterable[Mutant], found: Mapping[str, Row]) -> None:
    """Write the page, with new results where given and the rows of the page elsewhere."""
    rows = read() | dict(found)
    lines = [_HEAD]
    for file, mutants in groupby(every, key=lambda each: each.file):
        lines.append(f"\n## `{file}`\n\n| in | without | fails |\n|---|---|---|\n")
        lines.extend(_line(each, rows[each.name]) for each in mutants if each.name in rows and rows[each.name].test)
    if KNOWN:
        lines.append(_KNOWN_HEAD)
        lines.extend(f"- `{name}`: {reason}\n" for name, reason in KNOWN.items())
    PAGE.write_text("".join(lines), encoding="utf-8")


def _line(mutant: Mutant, row: Row) -> str:
    what, test = (each.replace("|", "\\|") for each in (mutant.what, row.test))
    return f"| {mutant.where} | `{what}` | `{test}`{' *hangs*' if row.hung else ''} |\n"

"""The page docs/mutations.md: what each mutant removes, and the test that fails then."""

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
# Mutation tests

The correctness of lanes rests on small things: a wait, an event, a lock, a flag, and the order of freeing. This page
lists all of them. Each was removed from the code once, alone, and a test failed; the last column names it. (A test that
*hangs* fails by its timeout.) `make mutations` repeats this and writes this page. Pass words to run a part of the list;
`--missing` runs entries not on this page yet:

    python -m tests.mutations lanes/in_flight.py PipelinedSubmitter.drain
    python -m tests.mutations --missing --write

`tests/mutations/mutants.py` finds the code by its form, so a new lock enters the list by itself, and a test fails until
this page has it. Races don't depend on luck: `tests/runtime/races.py` stops one thread at each instruction in turn and
lets the other run.

The list doesn't cover reordered statements, or whether a condition is the right one. Where a lock belongs to a
condition being waited on or notified, Python itself objects to its removal. The GPU is the simulated one.
"""
_KNOWN_HEAD = "\n## Equivalent mutants\n\nNo test can fail without these, for the reason given.\n\n"
_ROW = re.compile(r"^\| (?P<where>\S+) \| `(?P<what>.*)` \| (?P<test>.*) \|$")


@dataclass(frozen=True)
class Row:
    """A mutant's name, and the test that failed; "" if none did."""

    name: str
    test: str
    hung: bool = False


def read() -> dict[str, Row]:
    """Return what the page says of each mutant that was killed, by its name."""
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
    """Write the page: for each mutant what was found now, else what was known before."""
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

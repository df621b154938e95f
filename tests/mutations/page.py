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
# What holds the lanes together

A lane's promises hang on small things: a wait, an event, a lock, a flag, and what is freed after what. This page lists
them all. Each was taken out of the code once, alone, and a test failed; the last column names it. (A test that *hangs*
fails by its time limit.) `make mutations` does that anew, and writes this page. With words, it does it for a part of
the list; `--missing` is for what is not in it yet:

    python -m tests.mutations lane/line.py Pipeline.drain
    python -m tests.mutations --missing --write

The code is found by its form: see `tests/mutations/mutants.py`. So whoever adds a lock has it in the list, and a test
says that this page lacks it. Threads that meet at one bad moment are no matter of luck there: `tests/runtime/races.py`
stops one thread at each instruction in turn and lets the other run.

What the list does not show: statements in another order, and whether a condition is the right one. Where a lock belongs
to a condition that is waited for or told under it, Python itself objects when it is gone. The GPU is the simulated one.
"""
_KNOWN_HEAD = "\n## Known to make no difference\n\nNo test can fail without these. Each has its reason.\n\n"
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

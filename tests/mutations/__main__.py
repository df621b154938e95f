"""`python -m tests.mutations [PART …]`: remove each wait, event and lock around lanes in turn, and see a test fail.

Runs on copies of the checkout. PART: only mutants with all of these words in their names. `--write` writes the results
to docs/mutations.md. Exits with status 1 if a mutant survives that is not known to be equivalent.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from rich.console import Console
from rich.progress import track

from tests.mutations import page
from tests.mutations.known import KNOWN
from tests.mutations.mutants import Mutant, mutants
from tests.mutations.trial import Copy, Verdict, copied

console = Console(soft_wrap=True)


def main() -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="only mutants with all of these in their names")
    parser.add_argument("--list", action="store_true", help="name the mutants, and run nothing")
    parser.add_argument("--write", action="store_true", help="write what was found into docs/mutations.md")
    parser.add_argument("--missing", action="store_true", help="only those that the page does not have")
    parser.add_argument("--tell", action="store_true", help="show what the failing test said")
    parser.add_argument("--jobs", type=int, default=2, help="trials at once")
    given = parser.parse_args()
    every = mutants()
    chosen = [each for each in every if all(part in each.name for part in given.parts)]
    if given.missing:
        there = page.read()
        chosen = [each for each in chosen if each.name not in there and each.name not in KNOWN]
    if given.list:
        for each in chosen:
            console.print(f"{each.file}:{each.line} {each.where}: {each.what}", markup=False, highlight=False)
        return 0
    found = tried(chosen, given.jobs, tell=given.tell)
    if given.write:
        rows = {each.name: page.Row(each.name, verdict.test, verdict.hung) for each, verdict in found.items()}
        page.write(every, rows)
    survived = [each for each, verdict in found.items() if not verdict.killed and each.name not in KNOWN]
    known = sum(not verdict.killed for verdict in found.values()) - len(survived)
    killed = len(found) - known - len(survived)
    console.print(f"{len(found)} mutants: {killed} killed, {known} known, {len(survived)} survived")
    return 1 if survived else 0


def tried(chosen: list[Mutant], jobs: int, *, tell: bool) -> dict[Mutant, Verdict]:
    """Try mutants, so many at once, and say what becomes of each."""
    known = page.read()
    with tempfile.TemporaryDirectory(prefix="embedge-mutants-") as folder:
        copies = [copied(Path(folder) / str(number)) for number in range(jobs)]
        free: SimpleQueue[Copy] = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def attempt(mutant: Mutant) -> Verdict:
            copy = free.get()
            try:
                return copy.run(mutant, known[mutant.name].test if mutant.name in known else "")
            finally:
                free.put(copy)

        with ThreadPoolExecutor(jobs) as pool:
            for verdict in pool.map(lambda copy: copy.check(each.file for each in chosen), copies):
                if verdict.killed:
                    console.print(verdict.told, markup=False, highlight=False)
                    sys.exit(f"{verdict.test} fails without any mutant")
            verdicts = pool.map(attempt, chosen)
            found = {}
            for mutant, verdict in track(
                zip(chosen, verdicts, strict=True), total=len(chosen), console=console, disable=not console.is_terminal
            ):
                found[mutant] = verdict
                say(mutant, verdict, tell=tell)
    return found


def say(mutant: Mutant, verdict: Verdict, *, tell: bool) -> None:
    """Say what became of a mutant."""
    word = "killed" if verdict.killed else "known" if mutant.name in KNOWN else "SURVIVED"
    hung = " (hangs)" if verdict.hung else ""
    console.print(
        f"{word:8} {mutant.file}:{mutant.line} {mutant.where}: {mutant.what}  {verdict.test}{hung}",
        markup=False,
        highlight=False,
    )
    if tell:
        console.print(verdict.told, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())

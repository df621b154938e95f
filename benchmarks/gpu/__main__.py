"""All GPU benchmarks in one run; docs/benchmarks-gpu.md describes them and how to read them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ROOT = Path(__file__).parents[2]
# On a bare machine nothing of ours is installed.
sys.path[:0] = [str(ROOT / each) for each in ("runtime", "benchmarks", "export")]

from benchmarks.gpu import cases, page, providers, records  # noqa: E402
from benchmarks.gpu.measure import Pace  # noqa: E402
from benchmarks.gpu.run import run  # noqa: E402
from embedge.errors import EmbedgeError  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks-gpu.md"
MADE = ROOT / "build" / "gpu"
NO_GPU = 2


def main(
    bundles: Annotated[Path | None, typer.Option(help="Models made elsewhere, by benchmarks.gpu.prepare.")] = None,
    record: Annotated[Path | None, typer.Option("--json", help="Where to write the record.")] = None,
    write: Annotated[bool, typer.Option("--write", help=f"Write {PAGE.relative_to(ROOT)} and its record.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Of each measurement.")] = 5,
    batches: Annotated[int, typer.Option(min=1, help="In a round of throughput.")] = 96,
    calls: Annotated[int, typer.Option(min=1, help="In a round of latency.")] = 100,
) -> None:
    """Measure on this machine's GPU, and return the exit status: 1 if a check or parity failed, 2 without a GPU."""
    told = Console(stderr=True, highlight=False, soft_wrap=True)

    def tell(text: str) -> None:
        told.print(text, markup=False)

    drivers, missing = providers.drivers()
    if not drivers:
        told.print("nothing is measured:", *(f"- {each}" for each in missing), sep="\n", markup=False)
        raise typer.Exit(NO_GPU)
    try:
        found = run(_cases(bundles, tell), Pace(rounds, batches, calls), tell)
    except EmbedgeError as error:
        told.print(f"benchmarks.gpu: {error}", markup=False)
        raise typer.Exit(1) from error
    if record is not None:
        records.write(found, record)
    if write:
        PAGE.write_text(page.render(found), encoding="utf-8")
        records.write(found, PAGE.with_suffix(".json"))
    Console(highlight=False, soft_wrap=True).print(page.render(found), markup=False)
    if not found.good:
        told.print("benchmarks.gpu: a check or parity missed, see above")
        raise typer.Exit(1)


def _cases(folder: Path | None, tell: Callable[[str], None]) -> list[cases.Case]:
    """Return the models, made here and now where no folder holds them."""
    if folder is None:
        from benchmarks.gpu import prepare

        prepare.prepare(MADE, tell)
    return cases.find(folder or MADE)


if __name__ == "__main__":
    typer.run(main)

"""The demo: export a trained model, prove it, serve it, and search the standard library's documentation with it.

It stands here because it is a page that runs, and the longest example of the public API: everything below is done
the way a user does it, through the `embedge` command and the client. It ends by itself; `make demo` runs it.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from steps import ENGINES, console, ended, serving, step

from embedge import Client, EmbedgeError, Request

RECIPE = ENGINES / "recipes" / "minilm.toml"
MODEL = "minilm"

QUESTIONS = (
    "How do I read a spreadsheet saved as comma separated values?",
    "wait for several threads to reach the same point",
    "find the closest match to a misspelled word",
    "keep only the most recently used results of an expensive function",
    "is this a leap year?",
    "run another program and capture what it prints",
)
# Parts of the library that are not its documentation.
_SKIPPED = set("test tests idlelib lib2to3 site-packages turtledemo ensurepip pydoc_data encodings tkinter".split())
_SHORTEST, _LONGEST = 30, 400  # characters of a docstring worth a search, and how much of it is embedded
_MOST = 4000
_PER_REQUEST = 32
_TIMED_QUERIES = 200


@dataclass(frozen=True)
class Passage:
    """A documented name of the standard library."""

    name: str
    text: str

    @property
    def first_line(self) -> str:
        """The line that a list of hits shows."""
        return self.text.strip().splitlines()[0]


def demo() -> None:
    """Run every step."""
    export()
    with serving("2 · serve", MODEL) as address, Client(address) as client:
        passages = list(documentation())[:_MOST]
        vectors = embed(client, passages)
        for question in QUESTIONS:
            answer(client, question, passages, vectors)
        console.print(latencies(client, [passage.text[:80] for passage in passages]))
    console.print(f"[green]done[/]: the bundle is in {ENGINES.name}/{MODEL}; README.md says what to do with it")


def export() -> None:
    """Make the bundle and prove it; one that is there already is kept and proven again."""
    if (ENGINES / MODEL).is_dir():
        step("1 · verify", "verify", str(ENGINES / MODEL))
    else:
        step("1 · export", "export", "--recipe", str(RECIPE), "--out", str(ENGINES))


def documentation() -> Iterator[Passage]:
    """Yield every public documented function and class of the standard library, read without importing it."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        package = parts[:-1] if parts[-1] == "__init__" else parts
        if _SKIPPED.isdisjoint(parts) and not any(part.startswith("_") for part in package):
            yield from _documented(ast.parse(path.read_bytes()).body, ".".join(package))


def _documented(body: Iterable[ast.stmt], prefix: str) -> Iterator[Passage]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            name = f"{prefix}.{node.name}"
            text = ast.get_docstring(node) or ""
            if len(text) >= _SHORTEST:
                yield Passage(name, text[:_LONGEST])
            if isinstance(node, ast.ClassDef):
                yield from _documented(node.body, name)


def embed(client: Client, passages: Sequence[Passage]) -> NDArray[np.float32]:
    """Embed all passages over one gRPC stream; return (n, dim) float32."""
    parts = [passages[start : start + _PER_REQUEST] for start in range(0, len(passages), _PER_REQUEST)]
    requests = (Request(items=[_text(each) for each in part], truncate=True, priority="bulk") for part in parts)
    columns = (TextColumn("[bold]3 · embed[/] passages"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    rows: dict[int, NDArray[np.generic]] = {}
    start = time.perf_counter()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=len(passages))
        for place, reply in client.stream(MODEL, requests):
            if isinstance(reply, EmbedgeError):
                raise reply
            rows[place] = reply.vectors
            progress.advance(bar, len(parts[place]))
    seconds = time.perf_counter() - start
    console.print(f"{len(passages):,} passages in {seconds:.1f} s, {len(passages) / seconds:,.0f} a second")
    return np.concatenate([rows[place] for place in range(len(parts))]).astype(np.float32, copy=False)


def _text(passage: Passage) -> str:
    return f"{passage.name}: {passage.text}"


def answer(client: Client, question: str, passages: Sequence[Passage], vectors: NDArray[np.float32]) -> None:
    """Print the passages that are nearest in meaning to a question. Vectors have length 1: the dot is the cosine."""
    scores = vectors @ client.embed(MODEL, [question])[0]
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column(style="green", width=4)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for place in np.argsort(-scores)[:3]:
        table.add_row(f"{scores[place]:.2f}", escape(passages[place].name), escape(passages[place].first_line))
    console.print(Panel(table, title=escape(question), title_align="left"))


def latencies(client: Client, texts: Sequence[str]) -> Table:
    """Time single texts over gRPC, one after the other; return the table of what they took."""
    step = max(1, len(texts) // _TIMED_QUERIES)
    wire, compute = [], []
    for text in texts[::step][:_TIMED_QUERIES]:
        start = time.perf_counter()
        reply = client.run(MODEL, Request(items=[text]))
        wire.append((time.perf_counter() - start) * 1e3)
        compute.append(reply.timings.compute * 1e3)
    table = Table(title=f"One short text a call, {len(wire)} calls, milliseconds", title_justify="left")
    for heading in ("", "p50", "p99"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, figures in (("whole call, as the client sees it", wire), ("of it: compute", compute)):
        table.add_row(name, *(f"{np.percentile(figures, share):.2f}" for share in (50, 99)))
    return table


if __name__ == "__main__":
    sys.exit(ended(demo))

"""`embedge embed`: lines of a file or of stdin in, vectors out, in process or through a server."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from embedge.commands.disk import naming
from embedge.commands.embed.job import EmbedJob, Remote
from embedge.commands.embed.lines import Chunk, chunks
from embedge.commands.embed.partial import Partial
from embedge.commands.embed.writers import check, json_line, write
from embedge.errors import InvalidInput
from embedge.outputs import DType

__all__ = ["embed"]

_STDIO = Path("-")


def embed(
    model: Annotated[str, typer.Argument(help="A bundle or model directory; with --server, a model's name.")],
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Lines to embed; - is stdin.")] = _STDIO,
    out: Annotated[Path, typer.Option("--out", "-o", help=".npy, .jsonl or .parquet; - is JSONL on stdout.")] = _STDIO,
    server: Annotated[str | None, typer.Option(help="HOST:PORT of a server that runs the model.")] = None,
    token: Annotated[str | None, typer.Option(envvar="EMBEDGE_TOKEN", help="Token of the server.")] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS; the system's authorities are trusted.")] = False,
    tls_ca: Annotated[Path | None, typer.Option(help="Speak TLS; authority to trust, PEM.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Client certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Key of the client certificate, PEM.")] = None,
    jsonl: Annotated[bool, typer.Option("--jsonl", help="Lines are JSON, whatever the file is called.")] = False,
    field: Annotated[str, typer.Option(help="The field of a JSON object that holds the text.")] = "text",
    files: Annotated[bool, typer.Option("--files", help="Lines are paths of images, clips or videos.")] = False,
    tower: Annotated[str | None, typer.Option(help="A tower of the model.")] = None,
    output: Annotated[str | None, typer.Option(help="An output of the tower.")] = None,
    dim: Annotated[int | None, typer.Option(help="Truncate vectors to this many dimensions.")] = None,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(get_args(DType))}.")] = "float32",
    prompt: Annotated[str | None, typer.Option(help="The name of a prompt of the model.")] = None,
    truncate: Annotated[bool, typer.Option("--truncate", help="Truncate texts over the model's limit.")] = False,
    chunk: Annotated[int, typer.Option(min=1, max=65_536, help="Lines in a request, and between checkpoints.")] = 256,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Embed lines of text, paths of files, or JSONL.

    A JSON object may name the parts of its item, as {"image": "cat.jpg", "text": "a cat"}: paths for images, clips and
    videos, lists for tensors and vectors. Paths start from where INPUT is.
    A bad line does not stop the run: it is listed with its number in OUT.errors.jsonl, and the exit code is 1.
    In .npy, row i is line i + 1, and the row of a bad line is zero; the other formats leave bad lines out.
    An interrupted run leaves OUT.partial behind; the same command with --resume goes on from there.
    """
    options: dict[str, Any] = {"tower": tower, "dim": dim, "dtype": dtype, "prompt": prompt, "truncate": truncate}
    options["outputs"] = () if output is None else (output,)
    as_json = jsonl or source.suffix in (".jsonl", ".ndjson")
    remote = _remote(server, token, tls_ca or (tls or None), tls_cert, tls_key)
    base = Path() if source == _STDIO else source.parent
    job = EmbedJob(model, remote, options, chunk, field if as_json else None, files, base)
    with ExitStack() as stack:
        stream = sys.stdin.buffer if source == _STDIO else stack.enter_context(source.open("rb"))
        parts = chunks(stream, chunk, json_field=job.json_field)
        if out == _STDIO:
            failed = _to_stdout(job, parts)
        else:
            total = None if source == _STDIO else os.fstat(stream.fileno()).st_size
            failed = _to_file(job, parts, out, total=total, resume=resume)
    raise typer.Exit(1 if failed else 0)


def _remote(
    server: str | None, token: str | None, tls: bool | Path | None, cert: Path | None, key: Path | None
) -> Remote | None:
    """Return the named server. Raises InvalidInput for options that need a server, or each other."""
    if server is None:
        if tls or cert or key:
            raise InvalidInput("the options of TLS need --server")
        return None
    if (cert is None) != (key is None):
        raise InvalidInput("a client certificate needs both --tls-cert and --tls-key")
    return Remote(server, token, tls, (cert, key) if cert and key else None)


def _to_stdout(job: EmbedJob, parts: Iterator[Chunk]) -> int:
    """Print vectors as JSONL and faults on stderr; return how many lines failed."""
    failed = 0
    with job.opened() as opened:
        for _, result in opened.run(parts):
            with naming("standard output"):
                for row, vector in zip(result.rows, result.array, strict=True):
                    sys.stdout.buffer.write(json_line(row, vector))
                sys.stdout.buffer.flush()  # whoever reads the pipe gets each chunk when it is done
            for fault in result.faults:
                typer.echo(f"line {fault.line}: {fault.error}", err=True)
            failed += len(result.faults)
    return failed


def _to_file(job: EmbedJob, parts: Iterator[Chunk], out: Path, *, total: int | None, resume: bool) -> int:
    """Embed by way of a partial result, then write the file; return how many lines failed."""
    check(out, job.options["dtype"])
    place = _beside(out, ".partial")
    with job.opened() as opened, closing(Partial(place, opened.settings, resume=resume)) as partial:
        try:
            with _progress(total) as advance:
                advance(partial.skip(parts))
                for chunk, result in opened.run(parts):
                    partial.append(chunk, result)
                    advance(len(chunk.raw))
            write(partial, out)
        except BaseException:
            typer.echo(f"{partial.state.lines:,} lines are safe in {partial.path}; go on with --resume", err=True)
            raise
        failed = _report(partial, out)
        partial.remove()
    return failed


def _report(partial: Partial, out: Path) -> int:
    """Report the outcome, and leave the list of failed lines beside the output."""
    state = partial.state
    errors = _beside(out, ".errors.jsonl")
    errors.unlink(missing_ok=True)
    count = state.lines - state.failed
    done = f"{count:,} vectors of {state.width} numbers, space {state.space}" if count else "no vectors"
    if not state.lines:
        done += "; the input has no lines"
    if state.failed:
        (partial.path / "errors").replace(errors)
        done += f"; {state.failed:,} of {state.lines:,} lines failed, see {errors}"
    typer.echo(f"{out}: {done}", err=True)
    return state.failed


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(out.name + suffix)


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr, in bytes of input; yield the function to advance it."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("embedding"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        yield lambda count: progress.advance(bar, count)

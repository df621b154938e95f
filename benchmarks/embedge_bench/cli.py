"""`embedge bench`: measure one target, or several side by side; draw a trace.

embedge bench run serve:engines/minilm --concurrency 1,8,32
embedge bench run grpc://localhost:50051/minilm --rate 20,40,60
embedge bench compare ours=serve:engines/minilm triton=oip://localhost:8001/minilm --workload short --workload mixed
embedge bench timeline trace.json --out timeline.svg
"""

from __future__ import annotations

import importlib.util
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedge.errors import EmbedgeError, InvalidInput, NotFound
from embedge_bench.settings import Settings

if TYPE_CHECKING:
    from embedge_bench.results import BenchReport

__all__ = ["app"]

app = typer.Typer(
    name="bench",
    help="Measure latency, throughput, padding, memory, energy and parity.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_TARGET = (
    "SCHEME:PATH or SCHEME://HOST:PORT/MODEL, with NAME= before it for a short name. Schemes: inproc, serve, ort "
    "(bundles); grpc, grpc+stream (our server); oip (Triton, KServe); openai+http."
)
Workloads = Annotated[
    list[str] | None,
    typer.Option("--workload", "-w", help="short, mixed, long, or a file of lines or JSONL; repeat for more."),
]
Concurrency = Annotated[str | None, typer.Option(help="Closed loop: numbers of clients, as 1,8,32. Default: 1,8.")]
RateOption = Annotated[str | None, typer.Option(help="Open loop: requests a second, as 20,40.")]
Arrivals = Annotated[
    Path | None, typer.Option(help="Open loop: file of recorded arrivals, a number of seconds a line.")
]
BatchOption = Annotated[int, typer.Option(help="Texts a request.")]
Timeout = Annotated[float | None, typer.Option(help="Deadline of each request, in seconds.")]
DurationOption = Annotated[float, typer.Option(help="Seconds a round.")]
CountOption = Annotated[int | None, typer.Option(help="Most requests a round.")]
RoundsOption = Annotated[int, typer.Option(help="Rounds; two or more give confidence intervals.")]
WarmUp = Annotated[float, typer.Option(help="Seconds of unmeasured load before each round.")]
TextCount = Annotated[int, typer.Option("--texts", help="Texts of a named workload.")]
JsonField = Annotated[str, typer.Option(help="Key of the text in JSONL files.")]
Seed = Annotated[int, typer.Option(help="Seed of all that is drawn by lot.")]
ReferenceOption = Annotated[
    Path | None,
    typer.Option(help="Right vectors: a bundle, or .npy with a row for each text. Default: the first target's bundle."),
]
Against = Annotated[
    str | None,
    typer.Option(help="Give ratios to this target, or to the better of several, as in triton,infinity."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the whole report here.")]
HtmlFile = Annotated[Path | None, typer.Option("--html", help="Write the report with pictures here.")]


@app.command()
def run(
    target: Annotated[str, typer.Argument(help=_TARGET)],
    workload: Workloads = None,
    concurrency: Concurrency = None,
    rate: RateOption = None,
    arrivals: Arrivals = None,
    batch: BatchOption = 1,
    timeout: Timeout = None,
    duration: DurationOption = 10.0,
    count: CountOption = None,
    rounds: RoundsOption = 3,
    warm_up: WarmUp = 1.0,
    texts: TextCount = 512,
    json_field: JsonField = "text",
    seed: Seed = 0,
    reference: ReferenceOption = None,
    json: JsonFile = None,
    html: HtmlFile = None,
) -> None:
    """Measure one target under each named workload and load."""
    options = dict(locals())
    _bench([options.pop("target")], options)


@app.command()
def compare(
    targets: Annotated[list[str], typer.Argument(help=_TARGET)],
    workload: Workloads = None,
    concurrency: Concurrency = None,
    rate: RateOption = None,
    arrivals: Arrivals = None,
    batch: BatchOption = 1,
    timeout: Timeout = None,
    duration: DurationOption = 10.0,
    count: CountOption = None,
    rounds: RoundsOption = 5,
    warm_up: WarmUp = 1.0,
    texts: TextCount = 512,
    json_field: JsonField = "text",
    seed: Seed = 0,
    reference: ReferenceOption = None,
    against: Against = None,
    json: JsonFile = None,
    html: HtmlFile = None,
) -> None:
    """Measure targets side by side, round by round in an order drawn by lot, and give ratios to the first."""
    options = dict(locals())
    targets = options.pop("targets")
    if len(targets) < 2:
        raise InvalidInput("compare needs two targets or more; for one there is 'embedge bench run'")
    _bench(targets, options)


@app.command()
def timeline(
    trace: Annotated[Path, typer.Argument(help="A trace, of `embedge serve --trace` or of a target with `?trace=`.")],
    out: Annotated[Path, typer.Option(help="Picture to write: .svg, .html (tells what is under the pointer), .png.")],
    start: Annotated[float, typer.Option(help="Draw from here, in milliseconds into the trace.")] = 0.0,
    end: Annotated[float | None, typer.Option(help="Draw to here. (default: its end)")] = None,
) -> None:
    """Draw a trace: a row for each thread and stream, a box for each thing it did."""
    _check_files({"html" if out.suffix == ".html" else "picture": out})
    from embedge_bench import spans
    from embedge_bench.report import timeline as report

    tracks = spans.window(spans.read(trace), start / 1e3, float("inf") if end is None else end / 1e3)
    if not tracks:
        raise InvalidInput(f"{trace}: nothing happened between {start:g} ms and {end} ms; leave out --start and --end")
    report.write(tracks, out, f"{trace.name}: {sum(len(track.boxes) for track in tracks):,} spans")
    typer.echo(f"written: {out}")


def _bench(targets: list[str], options: dict[str, object]) -> None:
    """Check everything that can be checked, then measure, show and write."""
    files = {kind: path for kind in ("json", "html") if isinstance(path := options.pop(kind), Path)}
    settings = Settings.of(targets, options)
    _check_files(files)
    from rich.console import Console

    from embedge_bench.bench import bench
    from embedge_bench.view import View, show

    plan = settings.plan()
    with View(plan, Console(stderr=True)) as view:
        report = bench(plan, view, title=settings.title(), command=shlex.join(["embedge", *sys.argv[1:]]))
    show(report, Console())
    _write(report, files)


def _check_files(files: dict[str, Path]) -> None:
    """Refuse now anything that would fail after the measurement."""
    for path in files.values():
        if not path.parent.is_dir():
            raise NotFound(f"{path.parent}: no such directory to write {path.name} to; make it first")
    if "html" in files and importlib.util.find_spec("embedge_bench.report") is None:
        raise EmbedgeError("this installation has no HTML report; leave out --html")


def _write(report: BenchReport, files: dict[str, Path]) -> None:
    from embedge_bench import results

    if "json" in files:
        results.write(report, files["json"])
    if "html" in files:
        importlib.import_module("embedge_bench.report").write(report, files["html"])
    for path in files.values():
        typer.echo(f"written: {path}")

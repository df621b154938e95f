"""`embedge tune`: try settings on this machine with the work it will have, and write down the best.

One setting after the other is varied, each with the best found for those before it: lanes x threads, then the token
budget, then the rows of a batch. All candidates of a setting run side by side, round by round. Among those that are
as fast as the fastest, within the noise, the smallest wins: it has the lower latency and needs less memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedge.errors import NotFound
from embedge_bench.settings import Settings

if TYPE_CHECKING:
    from embedge_bench.results import Report

__all__ = ["choose", "render", "slots", "tune"]

Config = Mapping[str, int]

# Throughputs that differ by less than this are the same: rounds on a quiet machine repeat to about 2 %.
_SAME = 0.98
_TOKEN_BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
_MAX_BATCHES = (8, 16, 32, 64, 128)


def tune(
    bundle: Annotated[Path, typer.Argument(help="Bundle to tune for, or a model's directory.")],
    workload: Annotated[str, typer.Option("--workload", "-w", help="short, mixed, long, or a file.")] = "mixed",
    concurrency: Annotated[int, typer.Option(help="Clients; enough to saturate the machine.")] = 32,
    duration: Annotated[float, typer.Option(help="Seconds a round.")] = 3.0,
    rounds: Annotated[int, typer.Option(help="Rounds of each candidate.")] = 3,
    json_field: Annotated[str, typer.Option(help="Key of the text in JSONL files.")] = "text",
    seed: Annotated[int, typer.Option(help="Seed of all that is drawn by lot.")] = 0,
    out: Annotated[Path, typer.Option(help="TOML file to write, for 'embedge serve --config'.")] = Path("embedge.toml"),
) -> None:
    """Find the best lanes, threads, token budget and batch size for a bundle on this machine."""
    if not out.absolute().parent.is_dir():
        raise NotFound(f"{out.absolute().parent}: no such directory to write {out.name} to; make it first")
    options = {
        "workload": [workload],
        "concurrency": str(concurrency),
        "rate": None,
        "arrivals": None,
        "batch": 1,
        "timeout": None,
        "duration": duration,
        "count": None,
        "rounds": rounds,
        "warm_up": 0.5,
        "texts": 512,
        "json_field": json_field,
        "seed": seed,
        "reference": None,
    }
    config: Config = {}
    for knob in (slots(_cores()), _values("token_budget", _TOKEN_BUDGETS), _values("max_batch", _MAX_BATCHES)):
        candidates = [{**config, **choice} for choice in knob]
        config = choose(candidates, _throughputs(bundle, candidates, options))
    out.write_text(render(config, bundle=bundle.name, workload=Path(workload).name), encoding="utf-8")
    typer.echo(f"written: {out}; use it with: embedge serve --config {out}")


def slots(cores: int) -> list[Config]:
    """Return the ways to divide the cores into lanes of equal threads, fewest lanes first."""
    return [{"lanes": lanes, "threads": cores // lanes} for lanes in range(1, cores + 1) if cores % lanes == 0]


def choose(candidates: Sequence[Config], throughputs: Sequence[float]) -> Config:
    """Return the first candidate that is as fast as the fastest; candidates come smallest first."""
    enough = max(throughputs) * _SAME
    return next(config for config, speed in zip(candidates, throughputs, strict=True) if speed >= enough)


def render(config: Config, *, bundle: str, workload: str) -> str:
    """Return the TOML text: fields of the runtime's configuration."""
    lines = [f"{key} = {value}" for key, value in config.items()]
    return "\n".join(
        [f"# Measured by 'embedge tune' for {bundle!r} with workload {workload!r}.", "[runtime]", *lines, ""]
    )


def _values(name: str, values: Sequence[int]) -> list[Config]:
    return [{name: value} for value in values]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _throughputs(bundle: Path, candidates: Sequence[Config], options: dict[str, Any]) -> list[float]:
    """Measure the candidates side by side, show the table, and return their embeddings a second."""
    from rich.console import Console

    from embedge_bench.bench import bench
    from embedge_bench.view import View, show

    names = [",".join(f"{key}:{value}" for key, value in config.items()) for config in candidates]
    specs = [_spec(bundle, name, config) for name, config in zip(names, candidates, strict=True)]
    plan = Settings.of(specs, options).plan()
    with View(plan, Console(stderr=True)) as view:
        report: Report = bench(plan, view, title=f"tune {bundle.name}", command="embedge tune")
    show(report, Console())
    speeds = {row.target: row.throughput.value for row in report.rows}
    return [speeds[spec.name] for spec in plan.specs]


def _spec(bundle: Path, name: str, config: Config) -> str:
    options = "&".join(f"{key}={value}" for key, value in config.items())
    return f"{name}=inproc:{bundle}?{options}"

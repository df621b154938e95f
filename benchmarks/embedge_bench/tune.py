"""`embedge tune`: try settings on this machine with the work it will have, and write down the best.

One setting after the other is varied, each with the best found for those before it: lanes x threads, then the token
budget, then the rows of a batch. All candidates of a setting run side by side, round by round, and are compared within
each round. Among those as fast as the fastest the smallest wins: it has the lower latency and needs less memory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from embedge.errors import NotFound
from embedge_bench.settings import Settings

__all__ = ["choose", "render", "slots", "tune"]

Config = Mapping[str, int]

# Speeds that differ by less than this are the same: rounds on a quiet machine repeat to about 2 %.
_SAME = 0.98
_TOKEN_BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
_MAX_BATCHES = (8, 16, 32, 64, 128)


def tune(
    bundle: Annotated[Path, typer.Argument(help="Bundle to tune for, or a model's directory.")],
    workload: Annotated[str, typer.Option("--workload", "-w", help="short, mixed, long, or a file.")] = "mixed",
    concurrency: Annotated[int, typer.Option(help="Clients; enough to saturate the machine.")] = 32,
    duration: Annotated[float, typer.Option(help="Seconds a round.")] = 2.0,
    rounds: Annotated[int, typer.Option(help="Rounds of each candidate.")] = 5,
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
        config = {**config, **choose(knob, _speeds(bundle, config, knob, options))}
    out.write_text(render(config, bundle=bundle.name, workload=Path(workload).name), encoding="utf-8")
    typer.echo(f"written: {out}; use it with: embedge serve --config {out}")


def slots(cores: int) -> list[Config]:
    """Return the ways to divide the cores into lanes of equal threads, fewest lanes first."""
    return [{"lanes": lanes, "threads": cores // lanes} for lanes in range(1, cores + 1) if cores % lanes == 0]


def choose(candidates: Sequence[Config], speeds: Sequence[Sequence[float]]) -> Config:
    """Return the first candidate that is as fast as the fastest; candidates come smallest first.

    speeds: of each candidate in each round. They are compared within the round, and the middle round counts, so that
    a slow minute of the machine speaks against nobody.
    """
    best = [max(each) for each in zip(*speeds, strict=True)]
    scores = [median(speed / most for speed, most in zip(each, best, strict=True)) for each in speeds]
    return next(c for c, score in zip(candidates, scores, strict=True) if score >= max(scores) * _SAME)


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


def _speeds(bundle: Path, config: Config, knob: Sequence[Config], options: dict[str, Any]) -> list[list[float]]:
    """Measure the knob's positions side by side, show the table, and return each one's embeddings a second by round."""
    from rich.console import Console

    from embedge_bench.bench import bench
    from embedge_bench.view import View, row_table

    specs = [_spec(bundle, {**config, **choice}, choice) for choice in knob]
    plan = Settings.of(specs, options).plan()
    with View(plan, Console(stderr=True)) as view:
        report = bench(plan, view, title=f"tune {bundle.name}", command="embedge tune")
    Console().print(row_table(report.rows, report.workloads))
    return [[each.throughput for each in report.rounds if each.target == spec.name] for spec in plan.specs]


def _spec(bundle: Path, config: Config, choice: Config) -> str:
    """Return the target of a configuration, named after what is varied."""
    name = ",".join(f"{key}:{value}" for key, value in choice.items())
    options = "&".join(f"{key}={value}" for key, value in config.items())
    return f"{name}=inproc:{bundle}?{options}"

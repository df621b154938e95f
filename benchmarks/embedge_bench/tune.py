"""`embedge tune`: try settings on this machine under a realistic load, and save the best.

Settings are varied one after another, each with the best earlier choices: lanes x threads, then `max_batch_tokens`,
`max_batch_size`, and the measured lengths. All candidates of a setting run side by side and are compared within each
round. Among the equally fast, the smallest wins: it has lower latency and needs less memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from embedge.backends.cores import cores
from embedge.errors import NotFound
from embedge_bench.settings import Settings

if TYPE_CHECKING:
    from embedge_bench.results import BenchReport

__all__ = ["Choice", "choose", "expected", "render", "slots", "tune"]

# None: left out, as if not set.
Config = Mapping[str, int | tuple[int, ...] | None]

# Smaller differences in speed are noise: rounds on a quiet machine repeat to about 2 %.
_SAME = 0.98
_TOKEN_BUDGETS = (256, 512, 1024, 2048, 4096, 8192)
_WARM_UP = 0.5
_MAX_BATCHES = (8, 16, 32, 64, 128)
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Choice:
    """The choice among a setting's candidates.

    Attributes:
        speed: Embeddings a second of the chosen one in its median round.
        alike: The candidates as fast as the fastest, the chosen one first.
        among: The number of candidates.
    """

    taken: Config
    speed: float
    alike: tuple[Config, ...]
    among: int

    @property
    def reason(self) -> str:
        """The choice and its reason, on one line."""
        text = f"{_name(self.taken)}, {self.speed:,.1f} embeddings/s; "
        if len(self.alike) == 1:
            return text + (f"the fastest of {self.among}" if self.among > 1 else "there was no other candidate")
        alike = f"{len(self.alike)} of {self.among} are within noise ({1 - _SAME:.0%}) of the fastest"
        return f"{text}{alike} ({' '.join(map(_name, self.alike))}), so the smallest was taken"


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
    """Find the best lanes, threads, lengths, batch tokens and batch size for a bundle on this machine."""
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
        "warm_up": _WARM_UP,
        "texts": 512,
        "json_field": json_field,
        "seed": seed,
        "reference": None,
    }
    knobs = [
        slots(cores()),
        _values("max_batch_tokens", _TOKEN_BUDGETS),
        _values("max_batch_size", _MAX_BATCHES),
        _lengths(bundle, workload, json_field),
    ]
    typer.echo(expected(sum(map(len, knobs)), rounds, duration + _WARM_UP))
    choices: list[Choice] = []
    for knob in knobs:
        report = _measured(bundle, [choice.taken for choice in choices], knob, options)
        speeds = [[r.throughput for r in report.rounds if r.target == _name(candidate)] for candidate in knob]
        choices.append(choose(knob, speeds))
        typer.echo(f"chosen: {choices[-1].reason}\n")
    out.write_text(render(choices, report, bundle.name), encoding="utf-8")
    typer.echo(f"written: {out}; use it with: embedge serve --config {out}")


def expected(candidates: int, rounds: int, seconds: float) -> str:
    """Return how long it will take: `rounds` of so many seconds for each candidate."""
    total = candidates * rounds * seconds
    text = f"{total / 60:.0f} min" if total >= 90 else f"{total:.0f} s"
    work = f"{candidates} candidates, {rounds} rounds of {seconds:g} s with their warm-up"
    return f"this takes about {text}, and the time to open the bundle for each candidate ({work})"


def slots(cores: int) -> list[Config]:
    """Return the ways to divide the cores into lanes of equal threads, fewest lanes first."""
    return [{"lanes": lanes, "threads": cores // lanes} for lanes in range(1, cores + 1) if cores % lanes == 0]


def rungs(sizes: Sequence[int], limit: int) -> tuple[int, ...]:
    """Return the minimum, quartiles and maximum of the texts' lengths, and the model's limit."""
    quantiles = np.quantile([size for size in sizes if size > 0] or [limit], _QUANTILES, method="higher")
    return tuple(sorted({*map(int, quantiles), limit}))


def choose(candidates: Sequence[Config], speeds: Sequence[Sequence[float]]) -> Choice:
    """Choose the first candidate as fast as the fastest; candidates come smallest first.

    Args:
        speeds: The speed of each candidate in each round. They are compared within a round, and the median round
            counts, so a slow minute of the machine favours nobody.
    """
    best = [max(each) for each in zip(*speeds, strict=True)]
    scores = [median(speed / most for speed, most in zip(each, best, strict=True)) for each in speeds]
    alike = [place for place, score in enumerate(scores) if score >= max(scores) * _SAME]
    return Choice(candidates[alike[0]], median(speeds[alike[0]]), tuple(candidates[p] for p in alike), len(candidates))


def render(choices: Sequence[Choice], report: BenchReport, bundle: str) -> str:
    """Return the TOML text: fields of the runtime's configuration, with comments on the measurement."""
    machine = report.environment
    loads = ", ".join(dict.fromkeys(f"{each.workload!r} with {each.load.label}" for each in report.rows))
    about = [
        f"Measured by 'embedge tune' on {report.created[:10]} for {bundle!r}.",
        f"machine: {machine.cpu}, {machine.cores} cores",
        f"workload: {loads}",
        *(choice.reason for choice in choices),
    ]
    taken = {key: value for choice in choices for key, value in choice.taken.items() if value is not None}
    if "lengths" in taken:
        about.append("lengths: the workload's shortest, quartiles and longest in tokens, and the model's limit")
    lines = [f"{key} = {list(value) if isinstance(value, tuple) else value}" for key, value in taken.items()]
    return "\n".join([*(f"# {line}" for line in about), "[runtime]", *lines, ""])


def _lengths(path: Path, workload: str, json_field: str) -> list[Config]:
    """Return the lengths to try: the bundle's, and the workload's if they differ."""
    from embedge.bundle import Bundle
    from embedge_bench import texts

    bundle = Bundle.load(path)
    own = next(iter(bundle.manifest.towers.values())).buckets.lengths
    found = rungs(texts.load(workload, field=json_field).measured(bundle).sizes, max(own))
    own_first: list[Config] = [{"lengths": None}, {"lengths": found}]
    return own_first if list(found) != sorted(own) else own_first[:1]


def _values(name: str, values: Sequence[int]) -> list[Config]:
    return [{name: value} for value in values]


def _measured(bundle: Path, taken: Sequence[Config], knob: Sequence[Config], options: dict[str, Any]) -> BenchReport:
    """Measure the candidates side by side, with the earlier choices, and show the table."""
    from rich.console import Console

    from embedge_bench.bench import bench
    from embedge_bench.tables import row_table
    from embedge_bench.view import View

    config = {key: value for each in taken for key, value in each.items()}
    specs = [_spec(bundle, {**config, **candidate}, _name(candidate)) for candidate in knob]
    plan = Settings.of(specs, options).plan()
    with View(plan, Console(stderr=True)) as view:
        report = bench(plan, view, title=f"tune {bundle.name}", command="embedge tune")
    console = Console()
    console.print(row_table(report.rows, report.workloads, console.width), crop=False)
    return report


def _name(config: Config) -> str:
    """Return a candidate's name, as in `lanes:1,threads:2`; a target can be called so."""
    return ",".join(f"{key}:{_plain(value)}" for key, value in config.items())


def _spec(bundle: Path, config: Config, name: str) -> str:
    """Return the target of a configuration, named after the varied setting."""
    options = "&".join(f"{key}={_plain(value)}" for key, value in config.items() if value is not None)
    return f"{name}=inproc:{bundle}?{options}"


def _plain(value: int | tuple[int, ...] | None) -> str:
    if value is None:
        return "as exported"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)

"""A report as a long benchmark would leave it, made up: three targets, two workloads, closed and open loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedge_bench import stats
from embedge_bench.results import (
    BenchReport,
    CostCells,
    Environment,
    Histogram,
    Load,
    Moment,
    Parity,
    Round,
    TargetInfo,
    TokenCounts,
    Usage,
    Workload,
)

# Embeddings a second where it is full, seconds of one request alone, share of real tokens (None: it does not tell).
TARGETS = {"peer": (52.0, 0.021, None), "embedge": (108.0, 0.0105, 0.97), "in process": (112.0, 0.0099, 0.99)}
LOADS = (
    *(Load(kind="closed", concurrency=callers) for callers in (1, 4, 8, 32)),
    *(Load(kind="open", rate=rate, arrivals="poisson", timeout=1.0) for rate in (30.0, 60.0)),
)
WORKLOADS = {"short": 8.0, "mixed": 1.0}
SECONDS = 10.0


def report(*, rounds: int = 4, seed: int = 7) -> BenchReport:
    """Return the report; the same seed gives the same."""
    dice = np.random.default_rng(seed)
    workloads = {name: _workload(name, dice) for name in WORKLOADS}
    found = [
        _round(number, target, workload, load, dice)
        for workload in WORKLOADS
        for load in LOADS
        for number in range(1, rounds + 1)
        for target in TARGETS
    ]
    return BenchReport(
        title="A day at the races",
        command="embedge bench compare peer=oip://localhost:8001/minilm embedge=serve:engines/minilm --rounds 4",
        created="2026-05-01T12:00:00+00:00",
        seed=seed,
        environment=Environment(
            cpu="Model CPU 9000",
            cores=2,
            memory=16 << 30,
            system="Linux 6.1",
            python="3.11.2",
            packages={"embedge": "0.1.0", "onnxruntime": "1.31.1"},
            clock={"governor": "performance"},
        ),
        targets={name: _target(name) for name in TARGETS},
        workloads=workloads,
        rounds=tuple(found),
        rows=stats.rows(found, workloads, list(TARGETS)),
        ratios=stats.ratios(found, ["peer"]),
        costs={"embedge": _costs()},
    )


def _target(name: str) -> TargetInfo:
    return TargetInfo(name=name, spec=f"made-up:{name}", kind="made up", model="minilm", version="1", start_seconds=1.2)


def _workload(name: str, dice: np.random.Generator) -> Workload:
    sizes = np.clip(dice.lognormal(2.3 if name == "short" else 4.0, 0.5, 512), 3, 256)
    counts, edges = np.histogram(sizes, bins=16)
    return Workload(
        name=name,
        source="drawn by lot",
        texts=512,
        unit="tokens",
        mean=float(sizes.mean()),
        median=float(np.median(sizes)),
        largest=int(sizes.max()),
        short_size=int(np.quantile(sizes, 0.25)),
        sizes=Histogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist())),
    )


def _round(number: int, target: str, workload: str, load: Load, dice: np.random.Generator) -> Round:
    full, alone, share = TARGETS[target]
    full, alone = full * WORKLOADS[workload] * dice.normal(1, 0.03), alone / WORKLOADS[workload]
    callers = load.concurrency or (load.rate or 1.0) * alone * 3
    asked = load.rate or callers / alone
    speed = full * (1 - np.exp(-asked / full)) * dice.normal(1, 0.01)
    count = int(speed * SECONDS)
    latencies = max(alone, callers / speed if load.concurrency else alone) * dice.lognormal(-0.1, 0.4, count)
    refusals = int(max(0.0, (asked - full) * SECONDS)) if load.kind == "open" else 0
    return Round(
        number=number,
        target=target,
        workload=workload,
        load=load,
        started="2026-05-01T12:00:00+00:00",
        seconds=SECONDS,
        count=count,
        embeddings=count,
        refusals=refusals,
        refusal_latencies=tuple(dice.lognormal(-6, 0.3, refusals).tolist()),
        latencies=tuple(latencies.tolist()),
        starts=tuple(np.sort(dice.uniform(0, SECONDS, count)).tolist()),
        sizes=tuple(dice.integers(4, 256, count).tolist()),
        client=Usage(cpu_seconds=1.1, rss=210_000_000),
        server=None if target == "in process" else Usage(cpu_seconds=17.5, rss=290_000_000),
        tokens=TokenCounts(real=60 * count, computed=int(60 * count / share) if share else None),
        parity=Parity(reference="minilm 1", items=count, min_cosine=0.999_998, mean_cosine=0.999_999),
        timeline=_timeline(callers, share is not None, dice),
    )


def _timeline(callers: float, told: bool, dice: np.random.Generator) -> tuple[Moment, ...]:
    inside: Sequence[float] = np.clip(dice.normal(callers, callers / 6, 80), 0, None).round().tolist()
    return tuple(
        Moment(
            at=0.125 * step,
            queue=items if told else None,
            rows=max(1.0, items / 3) if told else None,
            rss=290_000_000,
        )
        for step, items in enumerate(inside)
    )


def _costs() -> CostCells:
    rows, lengths = (1, 2, 4, 8, 16, 32), (8, 16, 32, 64, 128, 256)
    seconds = tuple(tuple(4e-4 + 5e-5 * n * length * (1 + length / 900) for length in lengths) for n in rows)
    return CostCells(rows=rows, lengths=lengths, seconds=seconds)

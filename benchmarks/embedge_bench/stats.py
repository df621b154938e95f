"""Statistics: percentiles, means over rounds with confidence intervals, ratios round by round.

The round is the independent sample: requests inside one round share its disturbances. So confidence intervals are
taken over rounds (Student's t, 95 %). With few rounds such an interval exceeds every observation, so the lowest and the
highest round are given instead.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from embedge_bench.results import PERCENTILES, Estimate, Load, LoadSummary, Parity, Ratio, Round, Workload

__all__ = ["FEW", "estimate", "geometric", "percentiles", "ratios", "rows", "spread"]

FEW = 5
"""Fewer rounds than these have no confidence interval."""

# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom; beyond them the normal distribution is near enough.
_T = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)
_NORMAL = 1.960

# Figures of a comparison, beside throughput.
_LATENCIES = ("p50", "p99")


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Return the percentiles of one round's values by name, `p50` … `p99.9`; nothing for no values."""
    if not values:
        return {}
    found = np.percentile(np.asarray(values), PERCENTILES)
    return {f"p{rank:g}": float(value) for rank, value in zip(PERCENTILES, found, strict=True)}


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of the rounds' non-negative values, with an interval for two or more."""
    found = _mean(values)
    return found if found.low is None else msgspec.structs.replace(found, low=max(0.0, found.low))


def geometric(values: Sequence[float]) -> Estimate:
    """Return the geometric mean of positive values, with an interval for two or more."""
    logs = _mean([math.log(value) for value in values])
    low, high = (None if edge is None else math.exp(edge) for edge in (logs.low, logs.high))
    return Estimate(value=math.exp(logs.value), low=low, high=high)


def spread(rounds: int) -> str:
    """Describe `low` and `high` of estimates from this many rounds."""
    if rounds < 2:
        return "none of a single round"
    return f"lowest–highest of {rounds} rounds" if rounds < FEW else f"95 % intervals over {rounds} rounds"


def rows(
    rounds: Iterable[Round], workloads: Mapping[str, Workload], targets: Sequence[str] = ()
) -> tuple[LoadSummary, ...]:
    """Return a row for each target, workload and load; loads in the order they ran, targets as in `targets`."""
    grouped = _grouped(rounds)
    loads = list(dict.fromkeys((workload, load) for _, workload, load in grouped))
    names = [*targets, *(target for target, _, _ in grouped)]
    keys = sorted(grouped, key=lambda key: (loads.index(key[1:]), names.index(key[0])))
    return tuple(_row(*key, grouped[key], workloads[key[1]].short_size) for key in keys)


def ratios(rounds: Iterable[Round], bases: Sequence[str]) -> tuple[Ratio, ...]:
    """Return, for every other target, its figures over those of the base under the same workload and load.

    Of several bases the better one counts, figure by figure and round by round.
    """
    grouped = _grouped(rounds)
    label = bases[0] if len(bases) == 1 else f"the better of {', '.join(bases)}"
    found = []
    for (target, workload, load), group in grouped.items():
        against = [grouped.get((base, workload, load), []) for base in bases]
        for figure in ("throughput", *_LATENCIES):
            values = [] if target in bases else _quotients(group, against, figure)
            if values:
                mean, each = geometric(values), tuple(values)
                found.append(
                    Ratio(
                        target=target,
                        base=label,
                        workload=workload,
                        load=load,
                        figure=figure,
                        value=mean,
                        rounds=each,
                    )
                )
    return tuple(found)


def _mean(values: Sequence[float]) -> Estimate:
    mean, count = math.fsum(values) / len(values), len(values)
    if count == 1:
        return Estimate(value=mean)
    if count < FEW:
        return Estimate(value=mean, low=min(values), high=max(values))
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    t = _T[count - 2] if count - 2 < len(_T) else _NORMAL
    reach = t * deviation / math.sqrt(count)
    return Estimate(value=mean, low=mean - reach, high=mean + reach)


def _grouped(rounds: Iterable[Round]) -> dict[tuple[str, str, Load], list[Round]]:
    groups: dict[tuple[str, str, Load], list[Round]] = {}
    for each in rounds:
        groups.setdefault((each.target, each.workload, each.load), []).append(each)
    return groups


def _row(target: str, workload: str, load: Load, rounds: list[Round], short: int) -> LoadSummary:
    efficiencies = [r.tokens.efficiency for r in rounds if r.tokens and r.tokens.efficiency is not None]
    speeds = [speed for r in rounds if (speed := r.tokens_per_second) is not None]
    refused = [latency for r in rounds for latency in r.refusal_latencies]
    servers = [r.server for r in rounds if r.server]
    embeddings = max(1, sum(r.embeddings for r in rounds))
    joules = [r.joules for r in rounds if r.joules is not None]
    return LoadSummary(
        target=target,
        workload=workload,
        load=load,
        rounds=len(rounds),
        throughput=estimate([r.throughput for r in rounds]),
        latency=_latency([r.latencies for r in rounds]),
        short_latency=_latency([_short(r, short) for r in rounds]),
        tokens_per_second=estimate(speeds) if speeds else None,
        padding_efficiency=float(np.mean(efficiencies)) if efficiencies else None,
        errors=dict(sum((Counter(r.errors) for r in rounds), Counter())),
        refusals=sum(r.refusals for r in rounds),
        refusal_p99=percentiles(refused).get("p99"),
        client_cpu_ms=1e3 * sum(r.client.cpu_seconds for r in rounds) / embeddings,
        server_cpu_ms=1e3 * sum(s.cpu_seconds for s in servers) / embeddings if servers else None,
        rss=max((s.rss for s in servers), default=max(r.client.rss for r in rounds)),
        joules_per_thousand=1e3 * sum(joules) / embeddings if joules else None,
        parity=_parity([r.parity for r in rounds if r.parity]),
    )


def _short(each: Round, size: int) -> tuple[float, ...]:
    return tuple(latency for latency, s in zip(each.latencies, each.sizes, strict=True) if s <= size)


def _latency(rounds: list[tuple[float, ...]]) -> dict[str, Estimate]:
    """Return the percentiles of the non-empty rounds."""
    each = [percentiles(values) for values in rounds if values]
    return {name: estimate([found[name] for found in each]) for name in (each[0] if each else ())}


def _parity(each: list[Parity]) -> Parity | None:
    if not each:
        return None
    items = sum(p.items for p in each)
    mean = math.fsum(p.mean_cosine * p.items for p in each) / items
    worst = min(p.min_cosine for p in each)
    return Parity(reference=each[0].reference, items=items, min_cosine=worst, mean_cosine=mean)


def _quotients(group: list[Round], against: list[list[Round]], figure: str) -> list[float]:
    """Return the ratios of rounds with the same number, skipping rounds without both values."""
    best: dict[int, float] = {}
    better = max if figure == "throughput" else min
    for each in (each for rounds in against for each in rounds):
        value = _figure(each, figure)
        if value > 0:
            best[each.number] = better(best.get(each.number, value), value)
    return [value / best[each.number] for each in group if (value := _figure(each, figure)) > 0 and each.number in best]


def _figure(each: Round, figure: str) -> float:
    """Return a comparable number, or 0 without one."""
    if figure == "throughput":
        return each.throughput
    return 0.0 if each.own_load else percentiles(each.latencies).get(figure, 0.0)

"""Records for tests, made short."""

from __future__ import annotations

from typing import Any

from embedge_bench.results import Histogram, Load, Round, Usage, Workload

CLOSED = Load(kind="closed", concurrency=8)

WORKLOAD = Workload(
    name="short",
    source="a test",
    texts=2,
    unit="tokens",
    mean=5.0,
    median=5.0,
    largest=9,
    short_size=4,
    sizes=Histogram(edges=(0.0, 10.0), counts=(2,)),
)


def round_of(target: str, number: int, *latencies: float, **more: Any) -> Round:
    """Return a round of one second in which these latencies were seen."""
    fields = {
        "number": number,
        "target": target,
        "workload": "short",
        "load": CLOSED,
        "started": "2026-01-01T00:00:00+00:00",
        "seconds": 1.0,
        "count": len(latencies),
        "embeddings": len(latencies),
        "latencies": latencies,
        "starts": tuple(range(len(latencies))),
        "sizes": tuple(4 if place % 2 else 9 for place in range(len(latencies))),
        "client": Usage(cpu_seconds=0.1, rss=1000),
    }
    return Round(**{**fields, **more})

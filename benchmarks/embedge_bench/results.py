"""The records of a benchmark: setup, environment and results. JSON in and out.

Seconds, bytes and joules throughout. None always means "not available": the machine or the target has no such counter.
A report holds the raw rounds and the rows computed from them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from embedge.errors import InvalidInput

__all__ = [
    "PERCENTILES",
    "BenchReport",
    "CostCells",
    "Environment",
    "Estimate",
    "Histogram",
    "Load",
    "LoadSummary",
    "Moment",
    "Parity",
    "Ratio",
    "Round",
    "TargetInfo",
    "TokenCounts",
    "Usage",
    "Workload",
    "read",
    "write",
]

FORMAT = 1
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
"""The percentiles of every latency figure. As keys they are written `p50` … `p99.9`."""


class _BenchRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of every record: immutable, and strict when read."""


class Environment(_BenchRecord, frozen=True, kw_only=True):
    """The machine and the software of a benchmark.

    Attributes:
        packages: Versions of the benchmark's and the targets' packages, by name.
        clock: Frequency governor and boost, as text by fact.
        power: Power mode, as text by fact.
        energy: The name of the energy counter.
    """

    cpu: str
    cores: int
    memory: int
    system: str
    python: str
    packages: dict[str, str]
    clock: dict[str, str] = {}
    power: dict[str, str] = {}
    energy: str | None = None
    accelerators: tuple[str, ...] = ()


class Histogram(_BenchRecord, frozen=True, kw_only=True):
    """Counts of values in [edges[i], edges[i + 1]); the last edge is inside. One more edge than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Workload(_BenchRecord, frozen=True, kw_only=True):
    """The texts of a load.

    Attributes:
        source: Their origin, with a digest.
        unit: The unit of the sizes: tokens of the model, or words.
        short_size: The largest size of a short request; a quarter of the texts are short.
    """

    name: str
    source: str
    texts: int
    unit: Literal["tokens", "words"]
    mean: float
    median: float
    largest: int
    short_size: int
    sizes: Histogram


class Load(_BenchRecord, frozen=True, kw_only=True):
    """How requests were sent: `closed` by `concurrency` callers, or `open` at `rate` requests a second.

    Attributes:
        batch: Texts per request.
        arrivals: For open loops, `poisson` or the name of the file with the recorded arrivals.
        timeout: The deadline of each request, in seconds.
    """

    kind: Literal["closed", "open"]
    concurrency: int | None = None
    rate: float | None = None
    batch: int = 1
    arrivals: str | None = None
    timeout: float | None = None

    @property
    def label(self) -> str:
        """Short text for tables and charts, the same for the same load."""
        if self.kind == "closed":
            return "1 client" if self.concurrency == 1 else f"{self.concurrency} clients"
        return f"{self.rate:g}/s" if self.arrivals == "poisson" else f"{self.rate:g}/s {self.arrivals}"


class TargetInfo(_BenchRecord, frozen=True, kw_only=True):
    """A measured target.

    Attributes:
        name: The key used everywhere.
        note: The scope of its numbers.
        start_seconds: Seconds until the first vector; for a running server, only the time to connect.
    """

    name: str
    spec: str
    kind: str
    model: str = ""
    version: str = ""
    backend: str = ""
    note: str = ""
    in_process: bool = False
    start_seconds: float | None = None


class Usage(_BenchRecord, frozen=True, kw_only=True):
    """CPU seconds spent during the round by a process and its children, and its largest resident memory seen."""

    cpu_seconds: float
    rss: int


class TokenCounts(_BenchRecord, frozen=True, kw_only=True):
    """Tokens of the answered texts, and the padded tokens computed for them, if known."""

    real: int
    computed: int | None = None

    @property
    def efficiency(self) -> float | None:
        """Share of real tokens among the computed ones, 0 to 1."""
        return self.real / self.computed if self.computed else None


class Parity(_BenchRecord, frozen=True, kw_only=True):
    """Closeness of the received vectors to the reference, idle and under load: cosines over `items` vectors."""

    reference: str
    items: int
    min_cosine: float
    mean_cosine: float


class Moment(_BenchRecord, frozen=True, kw_only=True):
    """One look at the target while it ran: `at` seconds after the round began.

    queue: items waiting or running. rows: mean rows in the batches since the look before. rss: bytes.
    """

    at: float
    queue: float | None = None
    rows: float | None = None
    rss: int | None = None


class Round(_BenchRecord, frozen=True, kw_only=True):
    """One target under one load for one stretch of time. `latencies`, `starts` and `sizes` run in parallel.

    started: ISO 8601, UTC. seconds: from the first intended start to the last answer. count: requests answered
    with vectors. embeddings: vectors in them. errors: failed requests by kind; refusals (overload) are not in it.
    latencies: seconds of each answered request; in an open loop counted from the *intended* start.
    starts: intended start of each answered request, seconds after the round began.
    sizes: size of each answered request, in the workload's unit.
    refusal_latencies: seconds until each refusal.
    lag: seconds that requests left late, as the generator could not keep up (99th percentile; open loop only).
    server: None where the target runs in the client's process, or in one that cannot be seen from here.
    joules: energy of the machine's counter over the round; it is that of everything that ran.
    own_load: the target cannot have this load and had one of its own: its latencies compare with nobody's.
    """

    number: int
    target: str
    workload: str
    load: Load
    started: str
    seconds: float
    count: int
    embeddings: int
    errors: dict[str, int] = {}
    refusals: int = 0
    latencies: tuple[float, ...] = ()
    starts: tuple[float, ...] = ()
    sizes: tuple[int, ...] = ()
    refusal_latencies: tuple[float, ...] = ()
    lag: float | None = None
    client: Usage
    server: Usage | None = None
    tokens: TokenCounts | None = None
    joules: float | None = None
    parity: Parity | None = None
    timeline: tuple[Moment, ...] = ()
    own_load: bool = False

    @property
    def throughput(self) -> float:
        """Embeddings a second."""
        return self.embeddings / self.seconds if self.seconds else 0.0

    @property
    def tokens_per_second(self) -> float | None:
        """Real tokens a second."""
        return self.tokens.real / self.seconds if self.tokens and self.seconds else None


class Estimate(_BenchRecord, frozen=True, kw_only=True):
    """The mean over rounds, with its interval; None for a single round.

    low, high: the 95 % confidence interval; of fewer than `stats.FEW` rounds the lowest and the highest.
    """

    value: float
    low: float | None = None
    high: float | None = None


class LoadSummary(_BenchRecord, frozen=True, kw_only=True):
    """The summary of all rounds of one target under one load: a table row, and a point of a curve.

    latency, short_latency: by `p50` … `p99.9`, for all requests and for the short ones (see Workload.short_size).
    cpu_ms: CPU milliseconds an embedding. joules_per_thousand: energy of a thousand embeddings.
    rss: largest resident memory, of the server where there is one, else of the process that holds everything.
    """

    target: str
    workload: str
    load: Load
    rounds: int
    throughput: Estimate
    latency: dict[str, Estimate]
    short_latency: dict[str, Estimate] = {}
    tokens_per_second: Estimate | None = None
    padding_efficiency: float | None = None
    errors: dict[str, int] = {}
    refusals: int = 0
    refusal_p99: float | None = None
    client_cpu_ms: float = 0.0
    server_cpu_ms: float | None = None
    rss: int = 0
    joules_per_thousand: float | None = None
    parity: Parity | None = None


class Ratio(_BenchRecord, frozen=True, kw_only=True):
    """A target over the first target of a comparison, under the same load, round by round.

    figure: `throughput` (more is better), or a latency such as `p50` (less is better).
    value: geometric mean of the rounds' ratios, with its interval. rounds: each round's ratio, in order.
    """

    target: str
    base: str
    workload: str
    load: Load
    figure: str
    value: Estimate
    rounds: tuple[float, ...]


class CostCells(_BenchRecord, frozen=True, kw_only=True):
    """A target's cost table: `seconds[i][j]` for a batch of `rows[i]` rows padded to `lengths[j]` tokens."""

    rows: tuple[int, ...]
    lengths: tuple[int, ...]
    seconds: tuple[tuple[float, ...], ...]


class BenchReport(_BenchRecord, frozen=True, kw_only=True):
    """A whole benchmark. `targets` and `workloads` by name; `costs` by target, where it has a cost table."""

    format: int = FORMAT
    title: str
    command: str
    created: str
    seed: int
    environment: Environment
    targets: dict[str, TargetInfo]
    workloads: dict[str, Workload]
    rounds: tuple[Round, ...]
    rows: tuple[LoadSummary, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    costs: dict[str, CostCells] = {}

    @property
    def own_loads(self) -> tuple[str, ...]:
        """Names of the targets with a fixed load instead of the requested one."""
        return tuple(dict.fromkeys(each.target for each in self.rounds if each.own_load))


def write(report: BenchReport, path: Path) -> None:
    """Write the report as JSON."""
    path.write_bytes(msgspec.json.encode(report) + b"\n")


def read(path: Path) -> BenchReport:
    """Read a report written by `write`. Raises InvalidInput."""
    try:
        report = msgspec.json.decode(path.read_bytes(), type=BenchReport)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not a benchmark report: {error}") from error
    if report.format != FORMAT:
        raise InvalidInput(f"{path}: report format {report.format} is unknown; this embedge reads format {FORMAT}")
    return report

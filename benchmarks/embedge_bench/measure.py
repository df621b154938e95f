"""One round: send the load, monitor client and server, and record the outcome."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

import msgspec
import numpy as np

from embedge.errors import BackendError, EmbedgeError, Overloaded
from embedge_bench import parity
from embedge_bench.energy import Energy
from embedge_bench.load import (
    Query,
    Sample,
    SendLimit,
    SystemClock,
    closed_loop,
    closed_loop_in_one_thread,
    open_loop,
    poisson,
    queries,
)
from embedge_bench.messages import Give, RunRound
from embedge_bench.processes import Meter, Watcher
from embedge_bench.results import Load, Moment, Round, TokenCounts, Usage
from embedge_bench.targets.base import Counters, Target, TargetReply

__all__ = ["Material", "measure"]

# Threads for an open loop where the target cannot be sent to without waiting. Waiting for one counts as latency.
_THREADS = 256
_LOOK_SECONDS = 0.1
# Between two looks at memory: one at a process and its descendants goes through every process of the machine.
_MEMORY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Material:
    """A workload as the load needs it, and the right vectors of some of its texts."""

    texts: Sequence[str]
    sizes: Sequence[int]
    unit: str
    reference: parity.Reference | None

    @classmethod
    def of(cls, task: Give) -> Material:
        """Return the content of a message."""
        vectors = {place: np.array(vector, dtype=np.float32) for place, vector in task.vectors.items()}
        reference = parity.Reference(task.reference, vectors) if task.reference else None
        return cls(task.texts, task.sizes, task.unit, reference)

    def query(self, places: Sequence[int]) -> Query:
        """Return the request for these texts."""
        return Query(tuple(self.texts[p] for p in places), tuple(places), sum(self.sizes[p] for p in places))


def measure(target: Target, material: Material, task: RunRound, *, counter: Energy | None = None) -> Round:
    """Warm up, run the round and return it. Raises the target's error if it answers nothing at all."""
    generator = _LoadGenerator(target, material, task)
    warm = generator.first_pass()
    if task.warm_up:
        warm += generator.send(SendLimit(task.warm_up), "warm-up")
    watch = _SideMonitor(target, counter)
    started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    with watch:
        samples = generator.send(SendLimit(task.seconds, task.count), "round")
    found = _round(task, material, samples, warm, watch, started)
    return msgspec.structs.replace(found, own_load=generator.load != task.load)


class _LoadGenerator:
    """Sends the round's requests to the target. `load` is the requested one, or the target's fixed load."""

    def __init__(self, target: Target, material: Material, task: RunRound) -> None:
        self._target, self._material, self._task = target, material, task
        self.load = _fitted(task.load, target)

    def first_pass(self) -> list[Sample]:
        """Send the texts with a reference, or one text without any; at least one must succeed."""
        reference = self._material.reference
        places = sorted(reference.vectors) if reference else [0]
        step = self.load.batch
        feed = [self._material.query(places[at : at + step]) for at in range(0, len(places), step)]
        callers = self.load.concurrency or 1
        samples = closed_loop(self._send, feed, callers=callers, limit=SendLimit(float("inf")), clock=SystemClock())
        errors = [sample.error for sample in samples if sample.error is not None]
        if len(errors) == len(samples):
            first = errors[0]
            raise first if isinstance(first, EmbedgeError) else BackendError(f"no request succeeds: {first!r}")
        return samples

    def send(self, limit: SendLimit, phase: str) -> list[Sample]:
        """Send requests until `limit`."""
        load, clock = self.load, SystemClock()
        feed = self._feed(phase)
        if load.kind == "closed" and self._target.threads:
            return closed_loop(self._send, feed, callers=load.concurrency or 1, limit=limit, clock=clock)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="caller") as pool:
            submit = partial(self._submit, pool)
            if load.kind == "closed":
                callers = load.concurrency or 1
                return closed_loop_in_one_thread(submit, feed, callers=callers, limit=limit, clock=clock)
            arrivals = self._task.arrivals or poisson(load.rate or 1.0, self._seed(phase))
            return open_loop(submit, feed, arrivals, limit=limit, clock=clock)

    def _feed(self, phase: str) -> Iterator[Query]:
        material = self._material
        seed = self._seed(phase)
        return queries(material.texts, material.sizes, batch=self.load.batch, seed=seed, sort=self._target.sort)

    def _seed(self, phase: str) -> str:
        """Return the seed of a phase. All targets share it, so all get the same requests."""
        return f"{self._task.seed} {self._task.number} {phase}"

    def _send(self, query: Query) -> TargetReply:
        return self._target.embed(query.texts, self.load.timeout)

    def _submit(self, pool: ThreadPoolExecutor, query: Query) -> Future[TargetReply]:
        return self._target.submit(query.texts, self.load.timeout) or pool.submit(self._send, query)


def _fitted(load: Load, target: Target) -> Load:
    """Return the load as this target must have it."""
    return Load(
        kind="closed" if target.callers else load.kind,
        concurrency=target.callers or load.concurrency,
        rate=load.rate,
        batch=target.batch or load.batch,
        arrivals=load.arrivals,
        timeout=load.timeout,
    )


class _SideMonitor:
    """Looks at both sides while a round runs; use it in a `with` block."""

    def __init__(self, target: Target, counter: Energy | None) -> None:
        self.moments: list[Moment] = []
        self.joules: float | None = None
        self.client: Usage | None = None
        self.server: Usage | None = None
        self.computed: int | None = None
        self._target, self._counter = target, counter
        self._clock = SystemClock()

    def __enter__(self) -> _SideMonitor:
        self._client_meter = Meter([os.getpid()], children=False)
        self._server_meter = Meter(self._target.processes, children=True)
        self._first = self._last = self._counters()
        self._joules = self._counter.read() if self._counter else 0.0
        self._began = self._next_memory = self._clock.now()
        self._memory = 0
        self._watcher = Watcher(self._look, _LOOK_SECONDS)
        self._watcher.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._watcher.__exit__(None, None, None)
        self.joules = self._counter.read() - self._joules if self._counter else None
        self.client, self.server = self._client_meter.usage(), self._server_meter.usage()
        now = self._counters()
        if now.computed is not None and self._first.computed is not None:
            self.computed = int(now.computed - self._first.computed)

    def _counters(self) -> Counters:
        """Return the target's counters, or none if it has just died: its round is still a result."""
        try:
            return self._target.counters()
        except EmbedgeError:
            return Counters()

    def _look(self) -> None:
        now, last = self._counters(), self._last
        self._last = now
        clock = self._clock.now()
        if clock >= self._next_memory:
            client = self._client_meter.look()
            self._memory = self._server_meter.look() or client
            self._next_memory = clock + _MEMORY_SECONDS
        if self._counter:
            self._counter.tick()
        rows = _mean_rows(last, now)
        self.moments.append(Moment(at=round(clock - self._began, 4), queue=now.queue, rows=rows, rss=self._memory))


def _mean_rows(last: Counters, now: Counters) -> float | None:
    if None in (last.rows, last.batches, now.rows, now.batches):
        return None
    batches = (now.batches or 0) - (last.batches or 0)
    return round(((now.rows or 0) - (last.rows or 0)) / batches, 3) if batches else None


def _round(
    task: RunRound, material: Material, samples: list[Sample], warm: list[Sample], watch: _SideMonitor, started: str
) -> Round:
    samples.sort(key=lambda sample: sample.intended)
    good = [sample for sample in samples if sample.answer is not None]
    refused = [sample for sample in samples if isinstance(sample.error, Overloaded)]
    failed = [
        sample.error for sample in samples if sample.error is not None and not isinstance(sample.error, Overloaded)
    ]
    lags = [sample.started - sample.intended for sample in samples]
    first = min((sample.intended for sample in samples), default=0.0) if task.load.kind == "closed" else 0.0
    return Round(
        number=task.number,
        target="",
        workload=task.workload,
        load=task.load,
        started=started,
        seconds=max((sample.ended for sample in samples), default=0.0) - first,
        count=len(good),
        embeddings=sum(len(sample.query.texts) for sample in good),
        errors=dict(Counter(_kind(error) for error in failed)),
        refusals=len(refused),
        latencies=_rounded(sample.latency for sample in good),
        starts=_rounded(sample.intended for sample in good),
        sizes=tuple(sample.query.size for sample in good),
        refusal_latencies=_rounded(sample.latency for sample in refused),
        lag=round(float(np.percentile(lags, 99)), 6) if lags and task.load.kind == "open" else None,
        client=watch.client or Usage(cpu_seconds=0.0, rss=0),
        server=watch.server,
        tokens=_tokens(material, good, watch.computed),
        joules=watch.joules,
        parity=_parity(material, warm + good),
        timeline=tuple(watch.moments),
    )


def _kind(error: Exception) -> str:
    """Return the name of the error's class, or the gRPC status without a class."""
    status = getattr(error.__cause__, "code", None)
    return str(status().name) if type(error) is EmbedgeError and status else type(error).__name__


def _rounded(values: Iterator[float]) -> tuple[float, ...]:
    """Round to microseconds: the rest is noise and would double the file."""
    return tuple(round(value, 6) for value in values)


def _tokens(material: Material, good: list[Sample], computed: int | None) -> TokenCounts | None:
    told = [sample.answer.tokens for sample in good if sample.answer is not None and sample.answer.tokens is not None]
    if len(told) == len(good):
        return TokenCounts(real=sum(told), computed=computed)
    if material.unit == "tokens":
        return TokenCounts(real=sum(sample.query.size for sample in good), computed=computed)
    return None


def _parity(material: Material, samples: list[Sample]) -> parity.Parity | None:
    if material.reference is None:
        return None
    answers = ((sample.query.places, sample.answer.vectors) for sample in samples if sample.answer is not None)
    return material.reference.parity(parity.pairs(answers))

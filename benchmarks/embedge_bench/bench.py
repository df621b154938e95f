"""A whole benchmark: targets side by side, round by round in an order drawn by lot, and the report of it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Protocol

from embedge_bench import stats
from embedge_bench.environment import environment
from embedge_bench.messages import Give, RunRound
from embedge_bench.parity import Reference
from embedge_bench.results import BenchReport, Load, Round
from embedge_bench.targets import Spec
from embedge_bench.texts import Texts
from embedge_bench.worker_pool import WorkerPool, WorkerProcess

__all__ = ["BenchPlan", "Listener", "Turn", "bench", "turns"]


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """The plan of a benchmark.

    Attributes:
        references: Reference vectors by workload.
        arrivals: Recorded arrival times for open loops.
        against: Ratios compare with the better of these targets; if empty, with the first target.
    """

    specs: list[Spec]
    workloads: list[Texts]
    loads: list[Load]
    rounds: int = 3
    seconds: float = 10.0
    count: int | None = None
    warm_up: float = 1.0
    seed: int = 0
    references: dict[str, Reference] = field(default_factory=dict)
    arrivals: tuple[float, ...] = ()
    against: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """One target's turn in one round."""

    target: str
    workload: str
    load: Load
    number: int


class Listener(Protocol):
    """Whoever follows a benchmark while it runs."""

    def opening(self, target: str) -> None:
        """A target is being opened."""
        ...

    def begins(self, turn: Turn) -> None:
        """A turn begins."""
        ...

    def ended(self, turn: Turn, result: Round) -> None:
        """A turn has ended, with this result."""
        ...


def turns(plan: BenchPlan) -> Iterator[Turn]:
    """Yield all turns. Targets alternate within each round, so a slow minute of the machine hits all alike.

    Each round draws a new order, so no target always follows the same one. Equal seeds draw equal orders.
    """
    dice = random.Random(plan.seed)
    names = [spec.name for spec in plan.specs]
    for workload in plan.workloads:
        for load in plan.loads:
            for number in range(1, plan.rounds + 1):
                for target in dice.sample(names, len(names)):
                    yield Turn(target, workload.name, load, number)


def bench(plan: BenchPlan, listener: Listener, *, title: str, command: str) -> BenchReport:
    """Run the plan and return the report. Raises EmbedgeError if a target cannot be opened or answers nothing."""
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    rounds: list[Round] = []
    with WorkerPool(plan.specs, opening=listener.opening) as crew:
        _hand_out(plan, crew.workers.values())
        for turn in turns(plan):
            listener.begins(turn)
            result = crew.workers[turn.target].run(_task(plan, turn))
            rounds.append(result)
            listener.ended(turn, result)
        targets = {name: worker.info for name, worker in crew.workers.items()}
        costs = {name: worker.costs for name, worker in crew.workers.items() if worker.costs}
    workloads = {texts.name: texts.record() for texts in plan.workloads}
    return BenchReport(
        title=title,
        command=command,
        created=created,
        seed=plan.seed,
        environment=environment(),
        targets=targets,
        workloads=workloads,
        rounds=tuple(rounds),
        rows=stats.rows(rounds, workloads, list(targets)),
        ratios=stats.ratios(rounds, plan.against or (plan.specs[0].name,)),
        costs=costs,
    )


def _hand_out(plan: BenchPlan, workers: Iterable[WorkerProcess]) -> None:
    for texts in plan.workloads:
        reference = plan.references.get(texts.name)
        vectors = {place: tuple(vector.tolist()) for place, vector in reference.vectors.items()} if reference else {}
        task = Give(texts.name, texts.texts, texts.sizes, texts.unit, reference.name if reference else None, vectors)
        for worker in workers:
            worker.give(task)


def _task(plan: BenchPlan, turn: Turn) -> RunRound:
    return RunRound(
        workload=turn.workload,
        load=turn.load,
        number=turn.number,
        seconds=plan.seconds,
        count=plan.count,
        warm_up=plan.warm_up,
        seed=plan.seed,
        arrivals=plan.arrivals if turn.load.kind == "open" else (),
    )

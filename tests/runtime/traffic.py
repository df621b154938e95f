"""Workloads for the simulation: who calls when, with what. All of it drawn from the world's own random numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from embedge.scheduling.forming import Limits
from tests.runtime.simulation import Machine, SimCall, World

__all__ = ["Traffic", "capacity", "chaos", "draw_machine", "draw_traffic", "play", "text"]


@dataclass(frozen=True)
class Traffic:
    """What comes in. Shares are of all calls; `rate` is in items a second, on average."""

    requests: int
    rate: float
    many: float = 0.0  # share of calls with 2 to 32 items
    large: float = 0.0  # share of calls with up to 1500 items
    burst: float = 0.0  # chance that a call comes at the same moment as the one before
    timeout: tuple[float, float] | None = None
    timed: float = 1.0  # share of calls that have a deadline
    bulk: float = 0.0
    cancelled: float = 0.0
    bad: float = 0.0
    prepare: float = 0.0
    estimate: float = 1.0  # estimated tokens are off by up to this factor
    towers: int = 1
    shared: bool = False  # whether all towers are of one trunk
    deaths: float = 0.0  # of lanes, a second
    rebuilt: float = 1.0  # seconds until a lane is back, on average


def text(random: Random) -> int:
    """Return the length of a text in tokens: mostly short, a few up to 512."""
    return min(512, 3 + int(random.lognormvariate(3.0, 0.9)))


def play(world: World, traffic: Traffic, draw: Callable[[Random], int] = text) -> None:
    """Let the traffic come in, then finish: the last calls come while the scheduler drains already."""
    left = traffic.requests
    random = world.random
    mean_items = 1 + traffic.many * 16 + traffic.large * 750
    gap = mean_items / traffic.rate / (1 - traffic.burst)

    def arrive() -> None:
        nonlocal left
        left -= 1
        submit(world, traffic, draw)
        if left == traffic.requests // 100:
            world.scheduler.drain(0)
        if left:
            world.at(0.0 if random.random() < traffic.burst else random.expovariate(1 / gap), arrive)

    def break_down() -> None:
        world.kill(random.choice(world.lanes), random.expovariate(1 / traffic.rebuilt))
        if left:
            world.at(random.expovariate(traffic.deaths), break_down)

    world.at(0.0, arrive)
    if traffic.deaths:
        world.at(random.expovariate(traffic.deaths), break_down)
    world.run()
    world.finish()


def submit(world: World, traffic: Traffic, draw: Callable[[Random], int] = text) -> SimCall | None:
    """Let one call come in; some callers leave again before they have their answer."""
    random = world.random
    size, kind = 1, random.random()
    if kind < traffic.large:
        size = random.randrange(33, 1500)
    elif kind < traffic.large + traffic.many:
        size = random.randrange(2, 33)
    timed = traffic.timeout is not None and random.random() < traffic.timed
    call = world.call(
        [draw(random) for _ in range(size)],
        estimate=random.uniform(1 / traffic.estimate, traffic.estimate),
        prepare=random.uniform(0, 2 * traffic.prepare),
        bad=traffic.bad,
        timeout=random.uniform(*traffic.timeout) if timed and traffic.timeout else None,
        priority="bulk" if random.random() < traffic.bulk else "interactive",
        tower=f"tower-{random.randrange(traffic.towers)}",
        trunk="trunk" if traffic.shared else None,
    )
    if call is not None and random.random() < traffic.cancelled:
        world.at(random.expovariate(20), lambda: world.cancel(call))
    return call


def capacity(machine: Machine, draw: Callable[[Random], int] = text, items: int = 4000) -> float:
    """Return how many items a second the machine computes when it never runs dry."""
    world = World(0, replace(machine, max_items=items, max_seconds=1e9))
    waiting = [0]

    def refill() -> None:
        waiting[0] += 200
        world.call([draw(world.random) for _ in range(200)])
        if waiting[0] < items:
            world.at(0.0, refill)

    refill()
    world.run()
    return items / world.now


def chaos(seed: int, requests: int) -> World:
    """Play a workload in which everything happens that can; what, how much and on which machine depends on the seed."""
    random = Random(seed)
    machine = draw_machine(random)
    world = World(seed, machine)
    play(world, draw_traffic(random, machine, requests))
    return world


def draw_machine(random: Random) -> Machine:
    """Return a machine: one to four lanes, which may overlap batches, with a cost table that may be wrong."""
    return Machine(
        lanes=random.randrange(1, 5),
        fixed=random.choice([1e-4, 1e-3, 5e-3]),
        token=random.choice([5e-6, 2e-5, 1e-4]),
        batching=random.choice([1.0, 0.9, 0.5]),
        wrong=random.choice([1.0, 1.0, 0.25, 4.0]),
        slow=random.choice([1.0, 1.0, 5.0]),
        jitter=random.choice([0.0, 0.3]),
        limits=Limits(random.choice([1, 8, 64]), random.choice([256, 2048, 8192])),
        max_items=random.choice([64, 1024, 4096]),
        max_seconds=random.choice([1.0, 60.0]),
        max_wait=random.choice([0.0, 0.0, 0.002]),
        max_in_flight=random.choice([1, 1, 2, 3]),
    )


def draw_traffic(random: Random, machine: Machine, requests: int) -> Traffic:
    """Return traffic for the machine, from quiet to three times what it can do."""
    rate = machine.lanes * 16 / machine.seconds(16, 40) * random.choice([0.3, 0.7, 1.0, 3.0])
    typical = 30 * machine.seconds(8, 40)
    return Traffic(
        requests=requests,
        rate=rate,
        many=random.choice([0.0, 0.1]),
        large=random.choice([0.0, 0.001]),
        burst=random.choice([0.0, 0.5, 0.9]),
        timeout=(0.0, 2 * typical),
        timed=random.choice([0.0, 0.5, 1.0]),
        bulk=random.choice([0.0, 0.3]),
        cancelled=random.choice([0.0, 0.1]),
        bad=random.choice([0.0, 0.05]),
        prepare=random.choice([0.0, typical / 10]),
        estimate=random.choice([1.0, 2.0]),
        towers=random.choice([1, 1, 3]),
        deaths=random.choice([0.0, 3 / typical]),
        rebuilt=typical / 5,
        shared=random.choice([False, True]),
    )

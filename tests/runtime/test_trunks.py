"""Towers that share a trunk: their rows ride together, a graph is there once, and what one head does is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge import BackendError, Embedder, Request, RuntimeConfig
from embedge.backends.onnxruntime import CpuSlot
from embedge.batches.batch import Batch, layout, pad, trunks
from embedge.bundle import Bundle
from embedge.inputs.items import ItemInput
from embedge.lanes import Executor, Lane, Outcome
from embedge.lanes.program import Program
from tests.tiny_fused import CHANNELS, series
from tests.tiny_heads import STEPS, TOWERS, heads, tiny_heads

QUICK: dict[str, Any] = {"lanes": 1, "warm_up_seconds": 0}
SHARED = tuple(tower for tower in TOWERS if tower != "other")
HIGH = np.full((1, CHANNELS), 1e6, np.float32)  # whose sums are over 1,000: `picky` cannot bear it


class Counted:
    """A session that notes how many rows it ran, each time."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.rows: list[int] = []

    def start(self, feeds: Any) -> Any:
        self.rows.append(len(next(iter(feeds.values()))))
        return self.session.start(feeds)

    def close(self) -> None:
        self.session.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_heads(tmp_path_factory.mktemp("heads") / "1")


@pytest.fixture(scope="module")
def bundle(path: Path) -> Bundle:
    return Bundle.load(path)


@pytest.fixture
def sessions(bundle: Bundle) -> dict[str, Counted]:
    return {name: Counted(CpuSlot(1).open(name, bundle.graph(name))) for name in bundle.manifest.graphs}


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Embedder]:
    with Embedder.open(path, config=RuntimeConfig(**QUICK)) as opened:
        yield opened


def batch(bundle: Bundle, towers: list[str], items: list[Any]) -> Batch:
    prepared = ItemInput.of(bundle, "plain", RuntimeConfig()).prepare(items, Request(items=()))
    return Batch(towers, prepared, [len(item) for item in items])  # type: ignore[arg-type]


def feeds(bundle: Bundle, made: Batch) -> Any:
    return pad(made.rows, layout(bundle.manifest, bundle.manifest.towers["plain"]))


def test_towers_that_begin_alike_share_a_trunk(bundle: Bundle) -> None:
    assert trunks(bundle.manifest, bundle.manifest.towers) == {**dict.fromkeys(SHARED, "plain"), "other": "other"}


@settings(max_examples=30, deadline=None)
@given(drawn=st.lists(st.tuples(st.sampled_from(SHARED), st.integers(1, 16)), min_size=1, max_size=12))
def test_rows_of_any_towers_of_a_trunk_are_as_if_alone(bundle: Bundle, drawn: list[tuple[str, int]]) -> None:
    items = [series(length, seed) for seed, (_, length) in enumerate(drawn)]
    high = [heads("plain", item).max() > 1000 for item in items]
    towers = ["plain" if over else tower for (tower, _), over in zip(drawn, high, strict=True)]
    opened = {name: Counted(CpuSlot(1).open(name, bundle.graph(name))) for name in bundle.manifest.graphs}
    program = Program(bundle.manifest, opened)  # type: ignore[arg-type]
    towers = [
        tower if heads("plain", item).max() <= 1000 else "plain" for tower, item in zip(towers, items, strict=True)
    ]

    computed = program.run(towers, feeds(bundle, batch(bundle, towers, items)))

    assert sorted(row for rows, _ in computed.values() for row in rows) == list(range(len(items)))
    for tower, (rows, tensors) in computed.items():
        np.testing.assert_array_equal(tensors[f"{STEPS[tower][-1]}_out"], [heads(tower, items[row]) for row in rows])
    for step, session in opened.items():
        users = sum(step in STEPS[tower] for tower in towers)
        assert session.rows == ([users] if users else []), "each step runs once, for the rows of all who take it"


class Pending(Counted):
    """A session whose results come when they are waited for; what happened is noted."""

    def __init__(self, session: Any, name: str, log: list[str]) -> None:
        super().__init__(session)
        self.name, self.log, self.fails = name, log, False

    def start(self, feeds: Any) -> Any:
        self.log.append(f"start {self.name}")
        copied = {name: array.copy() for name, array in feeds.items()}

        def result() -> Any:
            self.log.append(f"wait {self.name}")
            if self.fails:
                raise RuntimeError(f"{self.name} is on fire")
            return self.session.start(copied)()

        return result


def pending(bundle: Bundle) -> tuple[dict[str, Pending], list[str]]:
    log: list[str] = []
    return {name: Pending(CpuSlot(1).open(name, bundle.graph(name)), name, log) for name in bundle.manifest.graphs}, log


def test_a_step_is_waited_for_where_another_reads_it_and_the_last_ones_stay_pending(bundle: Bundle) -> None:
    opened, log = pending(bundle)
    towers, items = ["left", "right", "plain", "left"], [series(length) for length in (3, 1, 4, 2)]

    finish = Program(bundle.manifest, opened).start(towers, feeds(bundle, batch(bundle, towers, items)))  # type: ignore[arg-type]

    assert log == ["start trunk", "wait trunk", "start left", "start right"]
    computed = finish()
    assert sorted(log[4:]) == ["wait left", "wait right"]
    for tower, (rows, tensors) in computed.items():
        np.testing.assert_array_equal(tensors[f"{STEPS[tower][-1]}_out"], [heads(tower, items[row]) for row in rows])


def test_a_step_that_fails_leaves_no_other_unwaited(bundle: Bundle) -> None:
    opened, log = pending(bundle)
    towers, items = ["left", "right"], [series(3), series(2)]
    opened["left"].fails = True
    program = Program(bundle.manifest, opened)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="left is on fire"):
        program.run(towers, feeds(bundle, batch(bundle, towers, items)))

    assert log[-2:] == ["wait left", "wait right"], "its session would never be free again"


def test_a_step_that_cannot_begin_leaves_no_other_unwaited(bundle: Bundle) -> None:
    opened, log = pending(bundle)
    towers, items = ["right", "deep"], [series(3), series(2)]
    opened["left"].fails = True  # which `deep` has to wait for
    program = Program(bundle.manifest, opened)  # type: ignore[arg-type]

    with pytest.raises(RuntimeError, match="left is on fire"):
        program.start(towers, feeds(bundle, batch(bundle, towers, items)))

    assert log[2:] == ["start right", "start left", "wait left", "wait right"]


def test_requests_for_different_towers_ride_in_one_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: dict[str, Counted] = {}
    real = CpuSlot.open

    def open_(slot: CpuSlot, name: str, path: Path) -> Any:
        opened[name] = Counted(real(slot, name, path))
        return opened[name]

    monkeypatch.setattr(CpuSlot, "open", open_)
    asked = {tower: [series(4, seed)] for seed, tower in enumerate(("left", "right", "deep", "plain"))}
    with Embedder.open(path, config=RuntimeConfig(max_wait_us=20_000_000, max_batch_size=4, **QUICK)) as embedder:
        cost = embedder.costs["plain"]
        cost.restore([[1e-3] * len(cost.lengths)] * len(cost.rows))  # company is free
        for session in opened.values():
            session.rows.clear()
        futures = {tower: embedder.submit(Request(items=items, tower=tower)) for tower, items in asked.items()}
        for tower, future in futures.items():
            reply = future.result(30)
            assert reply.tower == tower
            np.testing.assert_array_equal(reply.vectors, [heads(tower, item) for item in asked[tower]])
        assert embedder.stats()["batches"] == 1

    assert {name: session.rows for name, session in opened.items()} == {
        "trunk": [4],
        "left": [2],
        "right": [1],
        "deep": [1],
        "picky": [],
        "other": [],
    }


def test_a_graph_is_there_once_and_costs_are_those_of_the_trunk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[str] = []
    real = CpuSlot.open

    def open_(slot: CpuSlot, name: str, path: Path) -> Any:
        graphs.append(name)
        return real(slot, name, path)

    monkeypatch.setattr(CpuSlot, "open", open_)
    with Embedder.open(path, config=RuntimeConfig(lanes=1, warm_up_seconds=0.05)) as embedder:
        assert sorted(graphs) == ["deep", "left", "other", "picky", "right", "trunk"]
        assert list(embedder.costs) == list(TOWERS)
        assert len({id(cost) for cost in embedder.costs.values()}) == 2
        assert embedder.costs["left"] is embedder.costs["plain"] is not embedder.costs["other"]
        assert all(cost.measured for cost in embedder.costs.values())


def test_a_head_that_fails_fails_its_rows_alone(bundle: Bundle, sessions: dict[str, Counted]) -> None:
    towers, items = ["picky", "left", "picky", "plain"], [series(3), HIGH, HIGH * _sign(), series(2)]
    made, outcomes = batch(bundle, towers, items), []
    waiting = iter([made, None])
    work: Any = SimpleNamespace(take=lambda _: next(waiting), interrupt=lambda: None)
    program = Program(bundle.manifest, sessions)  # type: ignore[arg-type]
    executors: Any = SimpleNamespace(
        open=lambda *_: Executor(CpuSlot(1), program, lambda each: feeds(bundle, each)),
        close=lambda executor: executor.program.close(),
    )
    lane: Lane = Lane(
        "test",
        work=work,
        executors=executors,
        deliver=lambda _, outcome: outcomes.append(outcome),
        on_change=lambda _: None,
        probes=[batch(bundle, ["picky"], [series(1)])],
    )
    lane.start()
    assert lane.join(30)

    (outcome,) = outcomes
    assert isinstance(outcome, Outcome)
    assert set(outcome.faults) == {2}
    found = {row: next(iter(group.arrays.values()))[0] for group in outcome.groups for row in group.rows}
    for row in (0, 1, 3):
        np.testing.assert_array_equal(found[row], heads(towers[row], items[row]))


def test_a_request_to_a_head_that_fails_does_not_hurt_another(model: Embedder) -> None:
    high = HIGH * _sign()
    bad = model.submit(Request(items=[high, series(2)], tower="picky"))
    good = model.submit(Request(items=[high], tower="left"))

    reply = bad.result(30)

    assert set(reply.errors) == {0}
    assert isinstance(reply.errors[0], BackendError)
    np.testing.assert_array_equal(reply.outputs["dense"].values[1], heads("picky", series(2)))  # type: ignore[union-attr]
    np.testing.assert_array_equal(good.result(30).vectors, [heads("left", high)])


def _sign() -> float:
    """Return the sign with which `HIGH` is over 1,000 in some place of the trunk's output."""
    return 1.0 if heads("plain", HIGH).max() > 1000 else -1.0

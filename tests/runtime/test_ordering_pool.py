"""What a pool of lanes waits for and closes, in which order; see tests.mutations."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedge.errors import BackendError
from embedge.lanes import LaneSetup, executors
from embedge.lanes.executors import ExecutorFactory
from embedge.lanes.watchdog import Watchdog
from tests.runtime.played import PlayedBackend, played
from tests.runtime.races import LONG, locks, race


class Slot:
    """A slot whose sessions are counted; it refuses graphs of the name `bad`."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def open(self, name: str, path: Path) -> Any:
        if name == "bad":
            raise BackendError("no such graph")
        self.counts["opened"] += 1
        return SimpleNamespace(close=lambda: self.counts.update(["closed"]))

    def close(self) -> None:
        self.counts["slots closed"] += 1


class Shared:
    """A factory whose executors share one program, and executors that are open."""

    def __init__(self, opened: int = 0, graphs: tuple[str, ...] = ("encoder",)) -> None:
        self.slot = Slot()
        bundle = SimpleNamespace(graph=lambda _: Path(__file__), manifest=None)
        model: Any = SimpleNamespace(bundle=bundle, graphs=graphs, probes=SimpleNamespace(feeds=dict))
        backend: Any = SimpleNamespace(length_multiple=1, slot=lambda **_: self.slot)
        self.factory = ExecutorFactory(model, backend, threads=1, share=True)
        self.opened = [self.open() for _ in range(opened)]

    def open(self) -> Any:
        return self.factory.open(lambda: None)

    def close(self) -> None:
        self.factory.close(self.opened.pop())


def test_lanes_that_open_at_once_share_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(shared: Shared) -> None:
        assert shared.slot.counts["opened"] == 1

    locks(monkeypatch, executors)
    race(Shared, Shared.open, Shared.open, check, executors)


def test_what_lanes_share_is_closed_once_by_the_last_that_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(shared: Shared) -> None:
        assert shared.slot.counts == {"opened": 1, "closed": 1, "slots closed": 2}
        assert not shared.factory._users

    locks(monkeypatch, executors)
    race(lambda: Shared(opened=2), Shared.close, Shared.close, check, executors)


def test_nobody_gets_a_program_that_one_has_left() -> None:
    shared = Shared(opened=2)
    shared.close()
    assert shared.open().program is not shared.opened[0].program


def test_an_executor_that_cannot_be_opened_leaves_nothing_open() -> None:
    shared = Shared(graphs=("encoder", "bad"))
    with pytest.raises(BackendError, match="no such graph"):
        shared.open()
    assert shared.slot.counts == {"opened": 1, "closed": 1, "slots closed": 1}


def test_a_watch_looks_until_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, closing = threading.Event(), threading.Event()

    def lanes() -> Iterator[Any]:
        looked.set()
        closing.wait(LONG)  # it is still at it when it is closed
        yield from ()

    watch = Watchdog(lanes, lambda *_: None, hang_seconds=0.0)
    real = watch._thread.join
    monkeypatch.setattr(watch._thread, "join", lambda: (closing.set(), real()))
    watch.start()
    assert looked.wait(LONG)
    watch.close()
    alive = watch._thread.is_alive()
    closing.set()
    assert not alive


class Ends:
    """Stands where a lane does that ends, or does not."""

    def __init__(self, ends: bool) -> None:
        self.ends = ends

    def join(self, timeout: float | None = None) -> bool:
        return self.ends


@pytest.mark.parametrize("ends", [(True, True), (False, True), (True, False)])
def test_a_backend_is_closed_once_all_lanes_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: tuple[bool, bool]
) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(PlayedBackend, "close", lambda self: closed.append(self))
    with played(tmp_path, monkeypatch) as (embedder, _):
        pool: Any = embedder._pool
        with monkeypatch.context() as patch:
            patch.setattr(pool, "lanes", [Ends(True), Ends(ends[0])])
            patch.setattr(pool, "abandoned", [Ends(ends[1])])
            assert pool.join(LONG) is all(ends)
        assert len(closed) == all(ends)
        assert not pool._watchdog._thread.is_alive()


def test_a_setup_without_a_lane_split_closes_its_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    monkeypatch.setattr(PlayedBackend, "close", lambda self: closed.append(self))

    def refuse(*_: object) -> Any:
        raise BackendError("no lanes")

    monkeypatch.setattr(LaneSetup, "_choose_split", refuse)
    with pytest.raises(BackendError, match="no lanes"), played(tmp_path, monkeypatch):
        pass
    assert len(closed) == 1

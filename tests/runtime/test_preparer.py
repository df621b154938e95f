"""Preparing goes piece by piece, and looks up between two of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from embedge import DeadlineExceeded, Embedder, Request
from embedge.inputs.items import ItemInput
from tests.runtime.played import played

KIB = 1 << 10
LONG = 30.0


class Watch:
    """Notes what each piece holds; `before` is called ahead of preparing it."""

    def __init__(self) -> None:
        self.pieces: list[list[int]] = []
        self.before: Callable[[], object] = lambda: None


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Watch]]:
    """A model with one preparing thread, and a watch on what it prepares."""
    watch = Watch()
    real = ItemInput.prepare

    def prepare(self: ItemInput, items: Sequence[str], request: Request) -> Any:
        watch.pieces.append([len(item) for item in items])
        watch.before()
        return real(self, items, request)

    with played(tmp_path, monkeypatch, prepare_threads=1) as (embedder, _):
        monkeypatch.setattr(ItemInput, "prepare", prepare)
        yield embedder, watch


def test_pieces_are_bounded_in_items_and_characters(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    texts = ["a cat"] * 300 + ["x" * 100 * KIB] * 5 + ["y" * 700 * KIB, "a dog"]

    assert not embedder.submit(Request(items=texts, truncate=True)).result(LONG).errors
    submitted = list(watch.pieces)
    assert not embedder.run(Request(items=texts, truncate=True)).errors

    assert watch.pieces == submitted * 2
    assert [size for piece in submitted for size in piece] == [len(text) for text in texts]
    assert all(len(piece) <= 256 and (sum(piece) <= 256 * KIB or len(piece) == 1) for piece in submitted)


def test_a_small_call_waits_for_one_piece_of_a_large_one(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    entered, gate = threading.Event(), threading.Event()
    watch.before = lambda: (entered.set(), gate.wait(LONG))
    large = embedder.submit(Request(items=["x" * 200 * KIB] * 3, truncate=True))
    assert entered.wait(LONG)
    small = embedder.submit(Request(items=["a cat"], truncate=True))
    other = embedder.submit(Request(items=["a dog"]))

    gate.set()

    for future in (large, small, other):
        assert not future.result(LONG).errors
    assert watch.pieces == [[200 * KIB], [5], [5], [200 * KIB], [200 * KIB]]


def test_small_calls_share_a_piece(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    entered, gate = threading.Event(), threading.Event()
    watch.before = lambda: (entered.set(), gate.wait(LONG))
    futures = [embedder.submit(Request(items=["a cat"]))]
    assert entered.wait(LONG)
    futures += [embedder.submit(Request(items=["a", "the dog"])) for _ in range(3)]

    gate.set()

    assert all(not future.result(LONG).errors for future in futures)
    assert watch.pieces == [[5], [1, 7] * 3]


@pytest.mark.parametrize("way", ["run", "submit"])
def test_who_is_too_late_is_prepared_no_further(watched: tuple[Embedder, Watch], way: str) -> None:
    embedder, watch = watched
    deadline = time.monotonic() + 0.05

    def late() -> None:
        while time.monotonic() <= deadline:
            pass  # the first piece takes until the deadline; the clock is the real one

    watch.before = late
    request = Request(items=["x" * 200 * KIB] * 3, truncate=True, deadline=deadline)
    with pytest.raises(DeadlineExceeded):
        embedder.run(request) if way == "run" else embedder.submit(request).result(LONG)

    assert embedder.embed(["a cat"]).shape == (1, 16)
    assert watch.pieces == [[200 * KIB], [5]]

"""Preparing goes piece by piece, and looks up between two of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedge import DeadlineExceeded, Embedder, Request, RuntimeConfig, Unavailable
from embedge.content import Image
from embedge.inputs.items import ItemInput
from embedge.split import cuts
from tests.runtime.played import played
from tests.tiny_towers import SIDE, tiny_towers, vector

KIB = 1 << 10
LONG = 30.0


class Watch:
    """Notes what each piece holds; `before` is called ahead of preparing it."""

    def __init__(self) -> None:
        self.chunks: list[list[int]] = []
        self.before: Callable[[], object] = lambda: None


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Watch]]:
    """A model with one preparing thread, and a watch on what it prepares."""
    watch = Watch()
    real = ItemInput.prepare

    def prepare(self: ItemInput, items: Sequence[str], request: Request) -> Any:
        watch.chunks.append([len(item) for item in items])
        watch.before()
        return real(self, items, request)

    with played(tmp_path, monkeypatch, prepare_threads=1) as (embedder, _):
        monkeypatch.setattr(ItemInput, "prepare", prepare)
        yield embedder, watch


def test_a_long_piece_does_not_hold_up_the_end(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    within, end = threading.Event(), threading.Event()
    watch.before = lambda: (within.set(), end.wait(LONG))
    future = embedder.submit(Request(items=["a cat", "a dog"]))
    assert within.wait(LONG)

    embedder.close(timeout=0.01)

    assert not end.is_set()
    end.set()
    with pytest.raises(Unavailable):
        future.result(LONG)


def test_pieces_are_bounded_in_items_and_characters(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    texts = ["a cat"] * 300 + ["x" * 100 * KIB] * 5 + ["y" * 700 * KIB, "a dog"]

    assert not embedder.submit(Request(items=texts, truncate=True)).result(LONG).errors
    submitted = list(watch.chunks)
    assert not embedder.run(Request(items=texts, truncate=True)).errors

    assert watch.chunks == submitted * 2
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
    assert watch.chunks == [[200 * KIB], [5], [5], [200 * KIB], [200 * KIB]]


def test_small_calls_share_a_piece(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    entered, gate = threading.Event(), threading.Event()
    watch.before = lambda: (entered.set(), gate.wait(LONG))
    futures = [embedder.submit(Request(items=["a cat", "a"]))]
    assert entered.wait(LONG)
    futures += [embedder.submit(Request(items=["a", "the dog"])) for _ in range(3)]

    gate.set()

    assert all(not future.result(LONG).errors for future in futures)
    assert watch.chunks == [[5, 1], [1, 7] * 3]


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
    assert watch.chunks == [[200 * KIB], [5]]


@given(weights=st.lists(st.integers(0, 30), max_size=60), max_items=st.integers(1, 20), max_weight=st.integers(1, 100))
def test_pieces_hold_all_items_in_order_and_none_is_too_large(
    weights: list[int], max_items: int, max_weight: int
) -> None:
    pieces = list(cuts(weights, lambda item: item, max_items=max_items, max_weight=max_weight))

    assert [item for start, end, _ in pieces for item in weights[start:end]] == weights
    for start, end, weight in pieces:
        assert weight == sum(weights[start:end])
        assert end - start <= max_items
        assert weight <= max_weight or end - start == 1
    assert len(pieces) == 1 or all(start < end for start, end, _ in pieces)


def test_images_of_one_call_are_prepared_by_all_threads_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thread waits inside its piece for the others, so the call only ends if all of them work on it."""
    threads = 3
    together = threading.Barrier(threads)
    pieces: list[int] = []
    real = ItemInput.prepare

    def prepare(self: ItemInput, items: Sequence[Any], request: Request) -> Any:
        if request.items:
            pieces.append(len(items))
            together.wait(LONG)
        return real(self, items, request)

    pixels = np.full((300, 300, 3), 7, np.uint8)  # more than a piece holds
    settings = RuntimeConfig(towers=("image",), lanes=1, warm_up_seconds=0, prepare_threads=threads)
    with Embedder.open(tiny_towers(tmp_path / "towers"), config=settings) as embedder:
        monkeypatch.setattr(ItemInput, "prepare", prepare)
        reply = embedder.submit(Request(items=[Image(pixels)] * threads * 2)).result(LONG)

    assert pieces == [1] * threads * 2
    np.testing.assert_array_equal(reply.vectors, [vector(image=pixels[:SIDE, :SIDE])] * threads * 2)


def test_a_short_text_that_comes_alone_is_prepared_where_it_comes(watched: tuple[Embedder, Watch]) -> None:
    embedder, watch = watched
    threads: list[threading.Thread] = []
    watch.before = lambda: threads.append(threading.current_thread())

    embedder.submit(Request(items=["a cat"])).result(LONG)
    for items in (["a cat", "a dog"], ["a " * KIB]):
        embedder.submit(Request(items=items, truncate=True)).result(LONG)

    assert [thread is threading.current_thread() for thread in threads] == [True, False, False]

"""The queue is bounded in bytes of what is prepared, and large calls are not prepared far ahead of the lanes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import Embedder, InvalidInput, Overloaded, Request, RuntimeConfig
from embedge.content import Image
from embedge.inputs.items import ItemInput
from embedge.scheduling.capacity import QueueCapacity
from tests.runtime.played import WAIT, Play, played
from tests.tiny_towers import CHANNELS, SIDE, tiny_towers

LONG = 30.0
PREDICTED = 24  # bytes of "a cat": three tokens, each an int64
PREPARED = 32  # and as it is: four tokens


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Play]]:
    """A model with room for 64 KiB, whose only lane runs a batch until the gate is opened."""
    with played(tmp_path, monkeypatch, max_queue_bytes=64 << 10, prepare_threads=1) as (embedder, play):
        embedder.submit(Request(items=[WAIT]))
        assert play.entered.wait(LONG)
        yield embedder, play


def test_a_call_that_never_fits_is_told_so_and_one_that_does_not_now_when_to_come_back() -> None:
    room = QueueCapacity(max_items=10, max_bytes=100)
    room.check(10, 100, 1.0)
    with pytest.raises(InvalidInput, match=r"101 bytes .* 100 \(max_queue_bytes\)"):
        room.check(1, 101, 1.0)
    room.items, room.bytes = 1, 1
    with pytest.raises(Overloaded, match=r"100 bytes .* come back in 7\.0 s") as refused:
        room.check(1, 100, 7.0)
    assert refused.value.retry_after == 7.0
    with pytest.raises(Overloaded, match="max_queue_items"):
        room.check(10, 1, 7.0)


def test_calls_wait_up_to_so_many_bytes(busy: tuple[Embedder, Play]) -> None:
    embedder, play = busy
    with pytest.raises(InvalidInput, match="max_queue_bytes"):
        embedder.submit(Request(items=["a cat"] * 3000))
    inside = embedder.submit(Request(items=["a cat"] * 2000))
    assert embedder.stats()["waiting_bytes"] >= 2000 * PREDICTED
    with pytest.raises(Overloaded, match="max_queue_bytes"):
        embedder.submit(Request(items=["a dog"] * 2000))

    play.gate.set()

    assert not inside.result(LONG).errors
    assert embedder.embed(["a cat"] * 9000).shape == (9000, 16), "who waits is served part after part"
    assert embedder.stats()["waiting_bytes"] == 0


def test_a_large_call_is_not_prepared_far_ahead_of_the_lanes(
    busy: tuple[Embedder, Play], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder, play = busy
    paused = threading.Event()
    pieces: list[int] = []
    prepare, crowded = ItemInput.prepare, QueueCapacity.crowded.fget

    def noted(self: ItemInput, items: Sequence[Any], request: Request) -> Any:
        pieces.append(len(items))
        return prepare(self, items, request)

    def told(room: QueueCapacity) -> bool:
        if crowded(room):
            paused.set()
        return bool(crowded(room))

    monkeypatch.setattr(ItemInput, "prepare", noted)
    monkeypatch.setattr(QueueCapacity, "crowded", property(told))
    large = embedder.submit(Request(items=["a cat"] * 2000))

    assert paused.wait(LONG)
    assert sum(pieces) * PREPARED <= (64 << 10) // 4 + 256 * PREPARED

    play.gate.set()
    assert not large.result(LONG).errors
    assert sum(pieces) == 2000


def test_a_call_that_ends_while_it_waits_for_room_holds_up_nobody(busy: tuple[Embedder, Play]) -> None:
    embedder, play = busy
    large = embedder.submit(Request(items=["a cat"] * 2000))
    assert large.cancel()
    small = embedder.submit(Request(items=["a cat"]))
    play.gate.set()
    assert not small.result(LONG).errors


def test_predicted_bytes_are_about_those_of_the_rows(tmp_path: Path) -> None:
    config = RuntimeConfig(warm_up_seconds=0)
    with Embedder.open(tiny_towers(tmp_path / "towers"), config=config) as embedder:
        pixels = Image(np.zeros((SIDE, SIDE, 3), np.uint8))
        series = np.zeros((8, CHANNELS), np.float32)
        for tower, item in (("image", pixels), ("series", series), ("both", {"text": "a b c", "image": pixels})):
            inputs = embedder._inputs[tower]
            (row,) = inputs.prepare([item], Request(items=(), truncate=True))
            assert not isinstance(row, Exception)
            size = sum(array.nbytes for array in row.values())
            assert inputs.estimate([item] * 100)[1] == pytest.approx(100 * size, rel=0.3), tower

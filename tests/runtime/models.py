"""A tiny model that is open, and one whose only lane is busy until the test says otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedge import Embedder, Request, RuntimeConfig
from tests.runtime.played import WAIT, Play, played
from tests.tiny import tiny_bundle

__all__ = ["LONG", "QUICK", "gated", "model"]

LONG = 30.0
QUICK = RuntimeConfig(lanes=1, warm_up_seconds=0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    path = tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1")
    with Embedder.open(path, config=RuntimeConfig(lanes=2, warm_up_seconds=0.05, max_text_bytes=2_000_000)) as opened:
        yield opened


@pytest.fixture
def gated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Embedder, Play]]:
    """A model whose only lane is busy until the test opens the gate."""
    with played(tmp_path, monkeypatch, max_queue_items=1000) as (embedder, play):
        embedder.submit(Request(items=[WAIT]))
        assert play.entered.wait(LONG)
        yield embedder, play

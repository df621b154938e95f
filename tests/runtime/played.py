"""A backend that a test plays: some words make a batch fail, hang, or come out wrong. Everything else is real."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedge import Embedder, RuntimeConfig, backends
from embedge.backends import PendingArrays
from embedge.backends.onnxruntime import CpuSlot, OnnxRuntimeBackend
from tests.tiny import tiny_bundle

__all__ = ["NAN", "POISON", "WAIT", "ZERO", "Play", "PlayedBackend", "played"]

# What the words do. (The tiny tokenizer knows each of them as one token.)
POISON, WAIT, NAN, ZERO = "stone", "river", "sky", "tree"
_PATIENCE = 30.0  # seconds after which a test that went wrong ends


@dataclass
class Play:
    """What a test sets and sees. `ids` maps the words above to tokens."""

    ids: dict[str, int] = field(default_factory=dict)
    broken: bool = False  # every run fails, the self-test too
    heals: bool = False  # opening a session fixes what is broken
    shut: bool = False  # sessions cannot be opened
    after: Callable[[], None] | None = None  # called when a poisoned run fails
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    batches: list[NDArray[np.int64]] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)  # that opened sessions, in order
    opened: int = 0
    closed: int = 0

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return (rows, 16): how often each token (modulo 16) is in a row."""
        self.batches.append(ids)
        has = {word: (ids == token).any(axis=1) for word, token in self.ids.items()}
        if has[WAIT].any():
            self.entered.set()
            if not self.gate.wait(_PATIENCE):
                raise TimeoutError("the test never opened the gate")
        if has[POISON].any() and self.after is not None:
            self.after()
        if self.broken or has[POISON].any():
            raise RuntimeError("the device is on fire")
        vectors = np.zeros((len(ids), 16), np.float32)
        for row, (tokens, inside) in enumerate(zip(ids, mask, strict=True)):
            np.add.at(vectors[row], tokens[inside > 0] % 16, 1)
        vectors[has[NAN], 3] = np.nan
        vectors[has[ZERO]] = 0
        return vectors

    def seen(self, word: str) -> bool:
        """Return whether any batch had the word in it."""
        return any((ids == self.ids[word]).any() for ids in self.batches)


_PLAY = Play()


class PlayedBackend(OnnxRuntimeBackend):
    """The backend: see embedge.backends.base."""

    name = "played"
    shares = False

    def slot(self, *, threads: int, wake: Callable[[], None]) -> Slot:
        return Slot(threads)


class Slot(CpuSlot):
    def open(self, name: str, path: Path) -> Session:
        if _PLAY.shut:
            raise RuntimeError("the device is gone")
        _PLAY.opened += 1
        _PLAY.threads.append(threading.current_thread())
        _PLAY.broken = _PLAY.broken and not _PLAY.heals
        return Session(_PLAY)


class Session:
    def __init__(self, play: Play) -> None:
        self.play = play

    def start(self, feeds: Any) -> PendingArrays:
        """Compute at once where one batch is in flight; else when the result is waited for."""
        ids, mask = feeds["input_ids"], feeds["attention_mask"]
        if PlayedBackend.max_in_flight > 1:
            return lambda: {"dense": self.play.run(ids, mask)}
        vectors = self.play.run(ids, mask)
        return lambda: {"dense": vectors}

    def close(self) -> None:
        self.play.closed += 1


@contextmanager
def played(tmp_path: Path, monkeypatch: Any, max_in_flight: int = 1, **config: Any) -> Iterator[tuple[Embedder, Play]]:
    """Open a tiny model on the played backend, with one lane and nothing measured unless `config` says otherwise.

    max_in_flight: batches that the lane has in flight.
    """
    global _PLAY  # the backend is opened by name, so its instances find the play here
    _PLAY = play = Play()
    monkeypatch.setitem(backends._CLASSES, "played", f"{__name__}:PlayedBackend")
    monkeypatch.setattr(PlayedBackend, "max_in_flight", max_in_flight)
    monkeypatch.setattr("embedge.lanes.lane._BACKOFF_SECONDS", 0.0)
    path = tiny_bundle(tmp_path / "tiny" / "1")
    settings = RuntimeConfig(**{"backend": "played", "lanes": 1, "warm_up_seconds": 0, **config})
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    play.ids = {word: tokenizer.token_to_id(word) for word in (POISON, WAIT, NAN, ZERO)}
    embedder = Embedder.open(path, config=settings)
    play.batches.clear()
    try:
        yield embedder, play
    finally:
        play.gate.set()
        embedder.close()

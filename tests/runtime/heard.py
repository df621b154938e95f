"""A listener that collects what an embedder says of its health, and waits for a word."""

from __future__ import annotations

import threading

from embedge import Embedder

__all__ = ["Heard"]

LONG = 30.0  # seconds after which a test that went wrong ends


class Heard:
    """Collects what a listener is told, and waits for a word."""

    def __init__(self, embedder: Embedder) -> None:
        self.words: list[bool] = []
        self.changed = threading.Condition()  # owned by the test: between a lane's thread and the test's own
        embedder.watch(self)

    def __call__(self, serving: bool) -> None:
        with self.changed:
            self.words.append(serving)
            self.changed.notify_all()

    def wait_for(self, *words: bool) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.words[: len(words)] == list(words), LONG), self.words

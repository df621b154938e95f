"""`embedge embed` over a small model, and over one that is interrupted where a test says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import embedge
from embedge.cli import _run
from embedge.commands.embed import job as jobs
from embedge.outputs import Vectors
from embedge.request import Reply, Request
from tests.tiny import tiny_bundle, words

__all__ = ["NUMBERED", "TEXTS", "Exact", "bundle", "exact", "jsonl", "run", "vectors", "write_lines"]

TEXTS = [words(1 + number % 9, seed=number) for number in range(40)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1")


@pytest.fixture(scope="module")
def vectors(bundle: Path) -> np.ndarray:
    with embedge.Embedder.open(bundle) as embedder:
        return embedder.embed(TEXTS)


def write_lines(path: Path, lines: Sequence[str]) -> Path:
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def run(*args: object) -> int:
    return _run(["embed", *map(str, args)])


def jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


NUMBERED = [f"{number} {text}" for number, text in enumerate(TEXTS)]


class Exact:
    """Stands for a model whose numbers depend on the text only, and that is interrupted at one of `NUMBERED`."""

    def __init__(self, stop: int | None = None, identity: str = "exact 1") -> None:
        self.stop = stop
        self.identity = identity
        self.seen: list[str] = []

    def __call__(self, request: Request) -> Reply:
        if self.stop is not None and int(str(request.items[0]).split()[0]) >= self.stop:
            raise KeyboardInterrupt
        self.seen += [str(item) for item in request.items]
        values = np.float32([[len(str(item)), hash(str(item)) % 97] for item in request.items])
        tokens = np.ones(len(values), np.int32)
        return Reply(model="exact", version="1", tower="t", outputs={"d": Vectors(values, "exact")}, tokens=tokens)


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exact]]:
    """Put the models of the list in the place of the one that would be opened, one after the other."""
    queue: list[Exact] = []

    class Opened:
        def __init__(self, *_: object) -> None:
            self.model = queue.pop(0)

        def __enter__(self) -> jobs.EmbedModel:
            return jobs.EmbedModel(self.model, self.model.identity)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(jobs, "_model", Opened)
    yield queue
    assert not queue

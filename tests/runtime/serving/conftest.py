"""A server of models that take every modality and give every kind of output."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedge import Client, Embedder, RuntimeConfig
from tests.servers import served
from tests.tiny_composed import tiny_composed, tiny_words
from tests.tiny_kinds import tiny_kinds
from tests.tiny_towers import tiny_towers

QUICK = RuntimeConfig(warm_up_seconds=0, lanes=1)


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine repository with the models `kinds`, `towers`, `composed`, and `words`, whose only tower is of texts."""
    root = tmp_path_factory.mktemp("zoo")
    tiny_kinds(root / "kinds" / "1")
    tiny_towers(root / "towers" / "1")
    tiny_composed(root / "composed" / "1")
    tiny_words(root / "words" / "1")
    return root


@pytest.fixture(scope="session")
def zoo_address(zoo: Path) -> Iterator[str]:
    """The address of a server over `zoo`, in a process of its own."""
    config = zoo / "embedge.toml"
    config.write_text("[runtime]\nwarm_up_seconds = 0.0\nlanes = 1\n")
    with served(zoo, "--config", str(config)) as process:
        yield process.address


@pytest.fixture(scope="session")
def keeper(zoo_address: str) -> Iterator[Client]:
    """A client of that server."""
    with Client(zoo_address) as connected:
        yield connected


@pytest.fixture(scope="session")
def kinds(zoo: Path) -> Iterator[Embedder]:
    """The model `kinds` in this process."""
    with Embedder.open(zoo / "kinds", config=QUICK) as embedder:
        yield embedder


@pytest.fixture(scope="session")
def towers(zoo: Path) -> Iterator[Embedder]:
    """The model `towers` in this process."""
    with Embedder.open(zoo / "towers", config=QUICK) as embedder:
        yield embedder


@pytest.fixture(scope="session")
def composed(zoo: Path) -> Iterator[Embedder]:
    """The model `composed` in this process."""
    with Embedder.open(zoo / "composed", config=QUICK) as embedder:
        yield embedder

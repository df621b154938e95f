"""One engine repository and one server process for all tests of the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from embedge import Client, Embedder
from tests.servers import served
from tests.tiny import tiny_repository


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine repository with the models `other` and `tiny`."""
    return tiny_repository(tmp_path_factory.mktemp("repository") / "engines", "tiny", "other")


@pytest.fixture(scope="session")
def address(engines: Path) -> Iterator[str]:
    """The address of a server over `engines`, in a process of its own."""
    with served(engines) as process:
        yield process.address


@pytest.fixture(scope="session")
def client(address: str) -> Iterator[Client]:
    """A client of that server."""
    with Client(address) as connected:
        yield connected


@pytest.fixture(scope="session")
def tiny(engines: Path) -> Iterator[Embedder]:
    """The model `tiny` in this process."""
    with Embedder.open(engines / "tiny") as embedder:
        yield embedder

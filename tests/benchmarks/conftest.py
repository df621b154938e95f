"""One tiny bundle, and one server over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import served
from tests.tiny import tiny_repository, words


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An engine repository with the model `tiny`."""
    return tiny_repository(tmp_path_factory.mktemp("bench") / "engines", "tiny")


@pytest.fixture(scope="session")
def address(engines: Path) -> Iterator[str]:
    """The address of a server over `engines`, in a process of its own."""
    with served(engines) as process:
        yield process.address


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workload of 30 texts that the tiny model knows the words of."""
    file = tmp_path_factory.mktemp("texts") / "lines.txt"
    file.write_text("\n".join(words(1 + number % 12, seed=number) for number in range(30)), encoding="utf-8")
    return file

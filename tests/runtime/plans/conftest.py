"""A store of its own for each test, and a bundle."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from embedge import Bundle
from embedge.backends.tensorrt.plans.store import PlanStore
from tests.tiny import tiny_bundle


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlanStore:
    """An empty cache. Private folders are made under `tmp_path`, too."""
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    return PlanStore(tmp_path / "cache" / "plans")


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle; what is in its graphs does not matter here."""
    return Bundle.load(tiny_bundle(tmp_path_factory.mktemp("engines") / "tiny" / "1"))

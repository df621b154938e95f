"""Every test has a cache of its own, so that no plan or figure of another one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulated.fixtures import simulate

__all__ = ["simulate"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _no_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedge.lanes.lane._BACKOFF_SECONDS", 0.0)

"""What one start stores for the next: only what it measured, and only for starts with the same settings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from embedge import Embedder, RuntimeConfig, cache
from embedge.backends.cores import LaneSplit
from tests.tiny import tiny_bundle

MEASURED = LaneSplit(2, 1, "measured by this test")
DEFAULT = RuntimeConfig(warm_up_seconds=0.05)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def trials(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The measurements of lane splits: each one finds the same split."""
    seen: list[object] = []

    def measure_splits(*arguments: object) -> LaneSplit:
        seen.append(arguments)
        return MEASURED

    monkeypatch.setattr("embedge.lanes.setup.cores", lambda: 2)
    monkeypatch.setattr("embedge.lanes.setup.measure_splits", measure_splits)
    monkeypatch.setattr(
        "embedge.backends.onnxruntime.OnnxRuntimeBackend.candidates", lambda _: [LaneSplit(1, 2), MEASURED]
    )
    return seen


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("tiny") / "1")


def start(bundle: Path, config: RuntimeConfig) -> Embedder:
    """Open and close an embedder, so that it stores what it stores."""
    with Embedder.open(bundle, config=config) as embedder:
        embedder.embed(["a cat"])
    return embedder


@pytest.mark.parametrize(
    "config",
    [
        RuntimeConfig(warm_up_seconds=0),
        RuntimeConfig(warm_up_seconds=0, lanes=1),
        RuntimeConfig(warm_up_seconds=0.05, lanes=1),
        RuntimeConfig(warm_up_seconds=0.05, threads=1),
    ],
)
def test_a_default_start_takes_nothing_from_one_with_other_settings(
    bundle: Path, config: RuntimeConfig, trials: list[object]
) -> None:
    start(bundle, config)
    assert not trials
    assert start(bundle, DEFAULT).split == MEASURED
    assert len(trials) == 1


def test_a_start_that_measures_nothing_stores_nothing(bundle: Path, home: Path) -> None:
    start(bundle, RuntimeConfig(warm_up_seconds=0))
    assert not list(home.rglob("*.json"))


def test_a_start_that_measures_nothing_leaves_what_is_stored(bundle: Path, home: Path, trials: list[object]) -> None:
    start(bundle, DEFAULT)
    (record,) = home.rglob("*.json")
    stored = record.read_bytes()
    start(bundle, RuntimeConfig(warm_up_seconds=0))
    assert record.read_bytes() == stored
    assert start(bundle, DEFAULT).split == MEASURED
    assert len(trials) == 1


def test_records_of_before_are_not_taken(bundle: Path, home: Path, trials: list[object]) -> None:
    start(bundle, DEFAULT)
    (record,) = home.rglob("*.json")
    stored = msgspec.json.decode(record.read_bytes())
    stored["slots"] = stored.pop("split") | {"lanes": 1, "threads": 2, "reason": "as the settings say"}
    record.unlink()
    cache.save("cost", record.stem, stored)  # where starts stored what they had not measured, too
    assert start(bundle, DEFAULT).split == MEASURED
    assert len(trials) == 2

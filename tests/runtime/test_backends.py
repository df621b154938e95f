"""Which backend runs a model, what is passed over and why, and what is closed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from embedge import BackendError, Embedder, RuntimeConfig, Unavailable, backends
from embedge.backends import BackendModel
from embedge.backends.onnxruntime import OnnxRuntimeBackend
from tests.tiny import tiny_bundle

QUICK = {"warm_up_seconds": 0, "lanes": 1}


class Played(OnnxRuntimeBackend):
    """A backend that is missing, or cannot load, as the test says."""

    without = ""
    refuses: Exception | None = None
    log: list[str]

    def missing(self) -> str:
        return self.without

    def load(self, model: BackendModel) -> None:
        self.log.append(f"load {', '.join(model.graphs)}")
        if self.refuses is not None:
            raise self.refuses

    def close(self) -> None:
        self.log.append("close")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tiny_bundle(tmp_path / "tiny" / "1")


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    """The backend `first`, which `auto` asks before ONNX Runtime."""
    runner = type("OnnxRuntimeBackend", (Played,), {"name": "first", "log": []})
    module = ModuleType("first")
    module.Backend = runner  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "first", module)
    monkeypatch.setattr(
        backends,
        "_CLASSES",
        {"first": "first:Backend", "onnxruntime": "embedge.backends.onnxruntime:OnnxRuntimeBackend"},
    )
    return runner


def test_the_first_that_can_is_taken_and_closed_at_the_end(path: Path, first: type[Played]) -> None:
    with Embedder.open(path, config=RuntimeConfig(**QUICK)) as embedder:
        assert embedder.backend.startswith("first ")
        assert embedder.backend_reason == "first is the first in order that can run here"
        assert first.log == ["load encoder"]
    assert first.log == ["load encoder", "close"]


@pytest.mark.parametrize("error", [BackendError("the plan was refused"), Unavailable("no memory")])
def test_one_that_cannot_load_is_passed_over_closed_and_told(
    path: Path, first: type[Played], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    first.refuses = error
    with Embedder.open(path, config=RuntimeConfig(**QUICK)) as embedder:
        assert embedder.backend.startswith("onnxruntime ")
        assert f"first: {error}" in embedder.backend_reason
        assert embedder.embed(["a cat"]).shape == (1, 16)
    assert first.log == ["load encoder", "close"]
    assert [record.levelname for record in caplog.records if str(error) in record.message] == ["WARNING"]


@pytest.mark.parametrize("gpu", [True, False])
def test_one_that_is_missing_is_a_warning_where_there_is_a_gpu(
    path: Path,
    first: type[Played],
    gpu: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first.without = "first is not installed; pip install first"
    file = tmp_path / "nvidiactl"
    monkeypatch.setattr(backends, "_GPU_FILES", (str(file),))
    if gpu:
        file.touch()
    with caplog.at_level(logging.INFO), Embedder.open(path, config=RuntimeConfig(**QUICK)) as embedder:
        assert "pip install first" in embedder.backend_reason
    assert first.log == []
    told = [record.levelname for record in caplog.records if "pip install first" in record.message]
    assert told == ["WARNING" if gpu else "INFO"]


def test_one_that_was_asked_for_fails_and_no_other_runs(path: Path, first: type[Played]) -> None:
    config = RuntimeConfig(backend="first", **QUICK)
    first.refuses = BackendError("the plan was refused")
    with pytest.raises(BackendError, match="the plan was refused"):
        Embedder.open(path, config=config)
    assert first.log == ["load encoder", "close"]
    first.without = "first is not installed"
    with pytest.raises(Unavailable, match="'first' cannot run here: first is not installed"):
        Embedder.open(path, config=config)


def test_where_none_can_run_every_reason_is_told(
    path: Path, first: type[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    first.refuses = Unavailable("no memory")
    monkeypatch.setattr(OnnxRuntimeBackend, "missing", lambda _: "onnxruntime is not installed")
    monkeypatch.setattr(Played, "missing", lambda _: "")
    with pytest.raises(Unavailable, match=r"first: no memory; onnxruntime: onnxruntime is not installed"):
        Embedder.open(path, config=RuntimeConfig(**QUICK))


def test_a_model_that_does_not_open_closes_its_backend(
    path: Path, first: type[Played], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no device")

    monkeypatch.setattr("embedge.backends.onnxruntime.CpuSlot.open", refuse)
    for config in (RuntimeConfig(**QUICK), RuntimeConfig(warm_up_seconds=0.1)):
        with pytest.raises(BackendError, match="no device"):
            Embedder.open(path, config=config)
        assert first.log == ["load encoder", "close"]
        first.log.clear()


def test_the_backend_says_how_large_batches_are_where_the_settings_do_not(path: Path, first: type[Played]) -> None:
    first.max_batch_tokens = 77
    for budget, used in ((None, 77), (512, 512)):
        with Embedder.open(path, config=RuntimeConfig(max_batch_tokens=budget, **QUICK)) as embedder:
            assert embedder._scheduler._limits.tokens == used


@pytest.mark.parametrize("length_multiple", [8, 64])
def test_a_backend_that_likes_round_widths_gives_the_same_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length_multiple: int
) -> None:
    path = tiny_bundle(tmp_path / "tiny" / "1")
    texts = ["a cat", "the small dog sleeps by the river", "a bird", "the red cat"]
    quick = RuntimeConfig(warm_up_seconds=0, lanes=1)
    with Embedder.open(path, config=quick) as embedder:
        expected = embedder.embed(texts)
    monkeypatch.setattr("embedge.backends.onnxruntime.OnnxRuntimeBackend.length_multiple", length_multiple)
    with Embedder.open(path, config=quick) as embedder:
        np.testing.assert_allclose(embedder.embed(texts), expected, rtol=0, atol=1e-6)

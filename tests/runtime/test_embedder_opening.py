"""Embedders that open and close: settings, what is measured, what is damaged, what is said."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import (
    AsyncEmbedder,
    BackendError,
    BundleError,
    Embedder,
    InvalidInput,
    NotFound,
    Request,
    RuntimeConfig,
    Unavailable,
)
from embedge.scheduling.scheduler import Scheduler
from tests.runtime.models import QUICK, model
from tests.tiny import tiny_bundle

_ = model


# Settings.


@pytest.mark.parametrize(
    "settings",
    [
        {"lanes": -1},
        {"hang_seconds": float("nan")},
        {"batches_in_flight": 9},
        {"towers": "text"},
        {"gpu": "0"},
        {"cuda_graphs": None},
    ],
)
def test_settings_that_were_never_checked_are(tmp_path: Path, settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"RuntimeConfig: .*{next(iter(settings))}"):
        Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(**settings))


def test_settings_may_be_paths_and_numbers_of_numpy(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"trust_plans": [tmp_path / "key.pub"], "lanes": np.int64(1), "warm_up_seconds": 0}
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(**settings)) as embedder:
        assert embedder.config.trust_plans == (str(tmp_path / "key.pub"),)
        assert embedder.split.lanes == 1


# Opening and closing.


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_opened_like_a_bundle(tmp_path: Path, kind: type) -> None:
    path = tiny_bundle(tmp_path / "tiny")
    with Embedder(kind(path), QUICK) as embedder:
        assert embedder.bundle.path == path


def test_what_is_no_bundle_is_answered_with_what_is(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    graph.touch()
    with pytest.raises(BundleError, match=rf"a bundle is a directory; make one with 'embedge export {graph} --out"):
        Embedder.open(graph)
    with pytest.raises(InvalidInput, match="a bundle or the path of its directory is needed, not dict"):
        Embedder({})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=r"not str; open a path with: await AsyncEmbedder\.open\(path\)"):
        AsyncEmbedder("engines/minilm")  # type: ignore[arg-type]


def test_a_fork_that_closes_leaves_all_to_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(lanes=1, warm_up_seconds=0)) as embedder:
        with monkeypatch.context() as fork:
            fork.setattr(os, "getpid", lambda: -1)
            embedder.close()
        assert embedder.embed(["a cat"]).shape == (1, 16)


def test_who_drains_or_closes_does_not_serve_and_says_so(tmp_path: Path) -> None:
    told: list[bool] = []
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(warm_up_seconds=0)) as embedder:
        embedder.watch(told.append)
        assert embedder.drain(30)
        assert not embedder.serving
    assert told[0] is True
    assert not any(told[1:])
    assert len(told) == 3


def test_a_listener_that_fails_harms_nobody(model: Embedder) -> None:
    def fails(_: bool) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError):  # while it is being added, its error is its caller's
        model.watch(fails)
    assert model.embed(["still here"]).shape == (1, 16)


def test_preparing_survives_a_fault_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Embedder.open(tiny_bundle(tmp_path / "tiny"), config=RuntimeConfig(warm_up_seconds=0)) as embedder:
        with monkeypatch.context() as patch:
            patch.setattr(Scheduler, "push", lambda *_, **__: 1 / 0)
            with pytest.raises(BackendError, match="could not be prepared"):
                embedder.submit(Request(items=["a"])).result(30)
        assert embedder.submit(Request(items=["a"])).result(30).vectors.shape == (1, 16)


def test_opening_measures_and_the_next_start_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    path = tiny_bundle(tmp_path / "t" / "1")
    config = RuntimeConfig(warm_up_seconds=0.05)
    with Embedder.open(path, config=config) as first:
        assert first.costs["text"].measured
        slots = first.split

    def measured_again(*_: object) -> None:
        raise AssertionError("the choice of lanes was stored")

    monkeypatch.setattr("embedge.lanes.setup.measure_splits", measured_again)
    with Embedder.open(path, config=config) as second:
        assert second.split == slots


def test_a_stored_record_that_is_damaged_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    path = tiny_bundle(tmp_path / "t" / "1")
    config = RuntimeConfig(lanes=1, warm_up_seconds=0.05)
    Embedder.open(path, config=config).close()
    for record in (tmp_path / "cache").rglob("*.json"):
        record.write_bytes(b"{}")

    with Embedder.open(path, config=config) as model:
        assert model.embed(["a cat"]).shape == (1, 16)


def test_a_damaged_graph_is_refused_at_opening(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "t" / "1")
    (path / "model.onnx").write_bytes(b"no graph")

    with pytest.raises(BundleError, match="SHA-256"):
        Embedder.open(path)


@pytest.mark.parametrize("backend", ["quantum"])
def test_an_unknown_backend_lists_the_known_ones(tmp_path: Path, backend: str) -> None:
    with pytest.raises(NotFound, match="choose one of auto, tensorrt, onnxruntime"):
        Embedder.open(tiny_bundle(tmp_path / "t" / "1"), config=RuntimeConfig(backend=backend))


def test_settings_and_reasons_are_visible(model: Embedder) -> None:
    assert model.backend.startswith("onnxruntime ")
    assert "first in order" in model.backend_reason
    assert model.split.lanes == 2
    assert model.serving


def test_after_close_nothing_is_admitted(tmp_path: Path) -> None:
    model = Embedder.open(tiny_bundle(tmp_path / "t" / "1"), config=QUICK)
    model.close()
    request = Request(items=["a cat"])

    for call in (model.run, model.submit):
        with pytest.raises(Unavailable, match="closed"):
            call(request)
    assert replace(request, items=[]).items == []

"""The gate and captured graphs: what is replayed is held against plain runs, and is off where it is another thing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from embedge import Embedder, RuntimeConfig
from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.plans.record import CAPTURED
from embedge.serving.info import model_info
from tests.export.tensorrt.test_gate import CONFIG, figures
from tests.simulated.device import Device
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.tensorrt import Troubles
from tests.simulated.tensorrt.built import model_of
from tests.tiny import tiny_bundle, words

_ = simulate
SITE = Path(__file__).parents[2] / "simulated" / "site"


@pytest.mark.parametrize("integrated", [False, True])
def test_what_is_replayed_is_proven(simulate: Simulate, tmp_path: Path, integrated: bool) -> None:
    simulate("cuda-python", tensorrt="11.4.0", device=Device(integrated=integrated), order="random", seed=2)
    found = figures(model_of(tiny_bundle(tmp_path / "tiny"), CONFIG), "encoder")
    assert found[CAPTURED] == 0
    assert found["captured_cosine"] > 0.999999


def test_where_nothing_is_captured_nothing_is_claimed(simulate: Simulate, tmp_path: Path) -> None:
    simulate("pycuda", tensorrt="11.4.0")
    assert CAPTURED not in figures(model_of(tiny_bundle(tmp_path / "tiny"), CONFIG), "encoder")


@pytest.mark.parametrize("integrated", [False, True])
def test_a_replay_that_gives_something_else_is_not_proven_and_the_plan_is(
    simulate: Simulate, tmp_path: Path, caplog: pytest.LogCaptureFixture, integrated: bool
) -> None:
    simulate("cuda-python", tensorrt="11.4.0", device=Device(integrated=integrated))
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    library.load()._troubles.replayed = 0.3
    found = figures(model, "encoder")
    assert found["cosine_min"] > 0.999999
    assert not any(name.startswith("captured") for name in found)
    assert "is another one when it is replayed, for tower 'text'" in caplog.text
    assert "CUDA graphs are off for this plan" in caplog.text


@pytest.mark.parametrize("integrated", [False, True])
def test_a_replay_of_old_inputs_is_not_proven(simulate: Simulate, tmp_path: Path, integrated: bool) -> None:
    """As where what is captured has read its inputs once and for all."""
    simulate("cuda-python", tensorrt="11.4.0", device=Device(integrated=integrated))
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    library.load()._troubles.stale = True
    assert CAPTURED not in figures(model, "encoder")


@pytest.mark.parametrize("replayed", [0.0, 0.3])
def test_lanes_replay_what_was_proven_and_nothing_else(
    simulate: Simulate,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    replayed: float,
) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SITE))
    monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps({"providers": ["cuda-python"], "tensorrt": "11.4.0"}))
    monkeypatch.setenv("EMBEDGE_SIMULATED_TROUBLES", Troubles(replayed=replayed).to_json())
    simulate("cuda-python", tensorrt="11.4.0", order="random", seed=1)
    path = tiny_bundle(tmp_path / "tiny")
    config = RuntimeConfig(max_batch_size=5, max_batch_tokens=256, lanes=1, warm_up_seconds=0)
    with Embedder.open(path, config=config) as embedder:
        library.load()._troubles.replayed = replayed
        vectors = [embedder.embed([words(8, seed=seed)]) for seed in range(12)]
        told = model_info(embedder)
    assert (told.device, told.batches_in_flight, told.cuda_graphs) == (Device().name, 2, 0 if replayed else 32)
    assert told.backend.startswith("tensorrt TensorRT 11.4.0")
    with Embedder.open(path, config=RuntimeConfig(backend="onnxruntime", lanes=1, warm_up_seconds=0)) as processor:
        for seed, ours in enumerate(vectors):
            np.testing.assert_array_equal(ours, processor.embed([words(8, seed=seed)]))
    assert ("CUDA graphs are off: the gate proved none" in caplog.text) == (replayed != 0)

"""Verify on a GPU: batches fit the plans, the figures pass, and the certificate says what it holds for."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from embedge import Bundle, RuntimeConfig, cli
from embedge.backends.tensorrt import library
from embedge.calls.sets import set_part
from embedge.request import Request
from embedge.verify import Pairs, verify
from embedge.verify.bench import Bench
from tests.runtime.gpu.asked import MODELS
from tests.runtime.gpu.opened import BACKENDS, config, gpu
from tests.runtime.test_verify import proven
from tests.simulated.fixtures import Simulate, simulate
from tests.tiny import tiny_bundle, words

_ = simulate


@pytest.fixture(autouse=True)
def _own_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("embedge.commands.verify.console", Console(width=400))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_true_bundle_is_proven_and_the_certificate_names_the_gpu(
    simulate: Simulate, tmp_path: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = proven(tiny_bundle(tmp_path / "tiny"))
    with gpu(simulate, backend):
        assert cli._run(["verify", str(path), "--backend", backend]) == 0
        certificate = verify(path, config=config(backend))
    shown = capsys.readouterr().out
    assert "proven on this device" in shown
    for word in ("Simulated GPU", backend, "cuda-python", *(["TensorRT 11.4.0"] if backend == "tensorrt" else [])):
        assert word in f"{certificate.device} {certificate.backend}"
        assert word in shown
    assert certificate.passed


def test_it_is_proven_as_the_servers_settings_run_it(
    simulate: Simulate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, settings = proven(tiny_bundle(tmp_path / "tiny")), tmp_path / "embedge.toml"
    settings.write_text('[runtime]\nbackend = "tensorrt"\nmax_batch_size = 3\n')
    with gpu(simulate, "tensorrt"):
        assert cli._run(["verify", str(path), "--config", str(settings)]) == 0
        assert "TensorRT 11.4.0" in capsys.readouterr().out
        assert cli._run(["verify", str(path), "--config", str(settings), "--backend", "onnxruntime"]) == 0
        assert "TensorRT" not in capsys.readouterr().out


def test_verify_runs_the_plans_that_an_embedder_runs(simulate: Simulate, tmp_path: Path) -> None:
    """Each graph is made ready once for the embedder and once for each tower's bench, from the same plan."""
    path, settings = MODELS["heads"].make(tmp_path / "heads"), config("tensorrt")
    with gpu(simulate, "tensorrt"):
        towers = Bundle.load(path).manifest.towers
        for request in MODELS["heads"].requests():
            assert request.tower is not None
            with closing(Bench(Bundle.load(path), request.tower, _pairs(request), settings)):
                pass
        plans = list((tmp_path / "cache" / "plans").glob("here-*"))
        assert len(plans) == len({graph for tower in towers.values() for graph in tower.graphs})


def _pairs(request: Request) -> Pairs:
    good = [item for item in request.items if not (isinstance(item, (str, dict)) and not item)]
    return Pairs(good * 5, {})


@pytest.mark.parametrize("model", MODELS)
def test_every_batch_is_within_the_plans(simulate: Simulate, tmp_path: Path, model: str) -> None:
    path = MODELS[model].make(tmp_path / model)
    bundle = Bundle.load(path)
    with gpu(simulate, "tensorrt"):
        for request in MODELS[model].requests():
            name = request.tower or next(iter(bundle.manifest.towers))
            if set_part(bundle.manifest.towers[name]) is not None or (model == "kinds" and request.tower is None):
                continue  # their pieces are embedded first
            with closing(Bench(bundle, name, _pairs(request), config("tensorrt"))) as bench:
                assert len(bench.mixes([2, 7, 32])) == 3 * len(bench.items)
                for row in range(len(bench.items)):
                    bench.run([row], extra=19)


@pytest.mark.parametrize(("settings", "count"), [({"max_batch_size": 3}, 3), ({"max_batch_tokens": 100}, 5), ({}, 32)])
def test_batches_are_those_that_the_scheduler_may_make(
    simulate: Simulate, tmp_path: Path, settings: dict[str, int], count: int
) -> None:
    texts = Pairs([{"text": words(18, seed=seed)} for seed in range(40)], {})  # 20 tokens each
    chosen = RuntimeConfig(backend="tensorrt", **settings)  # type: ignore[arg-type]
    with gpu(simulate, "tensorrt"):
        bundle = Bundle.load(tiny_bundle(tmp_path / "tiny"))
        with closing(Bench(bundle, "text", texts, chosen)) as bench:
            assert len(bench.fitting(range(32))) == count
            bench.mixes([32])
        rows = {shape[0] for shapes in library.load()._state.shapes for name, shape in shapes if name == "input_ids"}
        assert max(rows) == count

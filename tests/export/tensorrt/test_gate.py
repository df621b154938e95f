"""The gate on the device: plans that are right pass at every corner, and each way to be wrong is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from embedge import Embedder, RuntimeConfig
from embedge.backends.base import BackendModel
from embedge.backends.gpu.policy import LENGTH_MULTIPLE
from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.engine import Engine
from embedge.batches.shapes import buckets
from embedge.bundle import manifest as m
from embedge.bundle import sha256
from embedge.cuda import Driver, choose
from embedge.verify import Golden, Pairs
from embedge_export.tensorrt.failure import PlanError
from embedge_export.tensorrt.gate import Miss, prove
from embedge_export.tensorrt.reference import OnnxReference
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.tensorrt.built import built, model_of
from tests.tiny import tiny_bundle, words
from tests.tiny_composed import tiny_composed
from tests.tiny_fused import tiny_fused
from tests.tiny_heads import tiny_heads
from tests.tiny_kinds import tiny_kinds
from tests.tiny_towers import tiny_towers

_ = simulate
CONFIG = RuntimeConfig(max_batch_size=5, max_batch_tokens=256)
BUILDERS: list[Callable[[Path], Path]] = [
    tiny_bundle,
    tiny_towers,
    tiny_fused,
    tiny_heads,
    tiny_kinds,
    tiny_composed,
]


@contextmanager
def entered() -> Iterator[Driver]:
    driver = choose()
    driver.enter()
    try:
        yield driver
    finally:
        driver.leave()


def figures(model: BackendModel, graph: str) -> dict[str, float]:
    engine = Engine(graph, model.bundle.manifest.graphs[graph], built(model, graph))
    with entered() as driver, closing(OnnxReference(model.bundle, model.config)) as reference:
        return prove(model.bundle, graph, engine, driver, reference)


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_all_graphs_of_a_bundle_pass(simulate: Simulate, tmp_path: Path, builder: Callable[[Path], Path]) -> None:
    simulate("cuda-python", tensorrt="11.4.0", order="random", seed=3)
    model = model_of(builder(tmp_path / "bundle"), CONFIG)
    for graph in model.graphs:
        found = figures(model, graph)
        assert found["cosine_min"] > 0.999999, graph
        assert found["batch_max_abs"] < 1e-6, graph


@pytest.mark.parametrize(("max_batch_size", "max_batch_tokens"), [(1, 1), (2, 16), (64, 31)])
def test_the_gate_runs_no_batch_that_lanes_cannot(
    simulate: Simulate, tmp_path: Path, max_batch_size: int, max_batch_tokens: int
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(
        tiny_bundle(tmp_path / "bundle"),
        RuntimeConfig(max_batch_size=max_batch_size, max_batch_tokens=max_batch_tokens),
    )
    assert figures(model, "encoder")["cosine_min"] > 0.999999


@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
@pytest.mark.parametrize(
    ("trouble", "value", "told"),
    [
        ("wrong", 0.3, "is not what ONNX Runtime gives for tower 'text' at length"),
        ("company", 0.3, "row 1 of"),
        ("nan", True, "not finite"),
    ],
)
def test_wrong_numbers_are_refused(
    simulate: Simulate, tmp_path: Path, provider: str, trouble: str, value: Any, told: str
) -> None:
    simulate(provider, tensorrt="10.3.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    setattr(library.load()._troubles, trouble, value)
    with pytest.raises(Miss, match="the plan of graph 'encoder' is wrong on this device") as miss:
        figures(model, "encoder")
    assert told in str(miss.value)


def test_rows_that_depend_on_each_other_are_refused_without_any_reference(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(proven(tmp_path), CONFIG)
    library.load()._troubles.company = 0.3
    monkeypatch.setattr(OnnxReference, "computes", lambda *_: False)
    with pytest.raises(Miss, match="depends on the other rows"):
        figures(model, "encoder")


def test_every_corner_is_run(simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    library.load()
    with closing(OnnxReference(model.bundle, CONFIG)) as reference:
        cases = list(reference.cases("encoder"))
    widths = {length: -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE for length in (1, 8, 9, 32)}
    found = {(case.rows, case.inputs["input_ids"].shape[1]) for case in cases}
    wanted = set()
    for bucket in buckets(model.probes, "text", max_batch_size=5, max_batch_tokens=256):
        wanted |= {(bucket.rows, widths[bucket.longest]), (bucket.rows, widths[bucket.shortest])}
    assert found == wanted
    assert all(len(case.inputs["input_ids"]) > 1 for case in cases), "rows that differ"

    figures(model, "encoder")
    ran = {dict(shapes)["input_ids"] for shapes in library.load()._state.shapes}
    assert ran == wanted | {(1, length) for _, length in wanted}


def test_towers_that_embed_pieces_are_proven_too(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    config = RuntimeConfig(towers=("pages",), max_batch_size=5, max_batch_tokens=256)
    model = model_of(tiny_composed(tmp_path / "composed"), config)
    assert {graph: len(figures(model, graph)) for graph in model.graphs} == {"text": 6, "weigh": 6}


def proven(tmp_path: Path) -> Path:
    """Return a bundle with golden pairs, as `embedge export` makes them."""
    path = tiny_bundle(tmp_path / "proven")
    texts = [words(count, seed=count) for count in range(1, 20)]
    with Embedder.open(path, config=RuntimeConfig(backend="onnxruntime", lanes=1, warm_up_seconds=0)) as embedder:
        vectors = embedder.embed(texts)
    pairs = Pairs([{"text": text} for text in texts], {"dense": list(vectors)})
    (path / "golden.json").write_bytes(Golden({"text": pairs}).to_bytes())
    manifest = m.decode((path / m.FILE_NAME).read_bytes(), where="tiny")
    files = {**manifest.files, "golden.json": sha256(path / "golden.json")}
    (path / m.FILE_NAME).write_bytes(m.encode(msgspec.structs.replace(manifest, files=files)))
    return path


def test_what_onnx_runtime_cannot_run_is_held_against_golden_pairs(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(proven(tmp_path), CONFIG)
    monkeypatch.setattr(OnnxReference, "computes", lambda *_: False)
    assert figures(model, "encoder")["golden_cosine"] > 0.999999
    library.load()._troubles.wrong = 0.3
    with pytest.raises(Miss, match=r"golden_\w+ is .* is not what the original model gives for #\d+ '"):
        figures(model, "encoder")


def test_without_onnx_runtime_and_golden_pairs_nothing_is_proven(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    monkeypatch.setattr(OnnxReference, "computes", lambda *_: False)
    with pytest.raises(PlanError, match="no golden pairs") as error:
        figures(model, "encoder")
    assert error.value.kind == "unavailable"

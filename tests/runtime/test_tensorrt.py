"""TensorRT's lanes over a simulated GPU: the processor's vectors, in any order of the GPU's work, on each version."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import BackendError, Embedder, RuntimeConfig, Unavailable
from embedge.backends.base import BackendModel, DeviceSlot
from embedge.backends.onnxruntime import OnnxRuntimeBackend
from embedge.backends.tensorrt import TensorRTBackend, library
from embedge.backends.tensorrt.engine import Engine, IncompatiblePlan
from embedge.backends.tensorrt.executable import Scratch, TensorRTExecutable
from embedge.batches.batch import Batch
from embedge.cuda import choose
from embedge.lanes.program import Program
from tests.simulated.device import Device
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.machine import Machine
from tests.simulated.tensorrt import Troubles
from tests.simulated.tensorrt.built import Here, built, model_of
from tests.tiny import tiny_bundle, words
from tests.tiny_heads import tiny_heads

_ = simulate
SITE = Path(__file__).parents[1] / "simulated" / "site"
ORDERS = [("late", 0), ("eager", 0), ("random", 1), ("random", 2)]
CONFIG = RuntimeConfig(backend="tensorrt", max_batch_size=8, max_batch_tokens=256, warm_up_seconds=0, lanes=2)


@pytest.fixture(autouse=True)
def _own_plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(SITE))


def child(monkeypatch: pytest.MonkeyPatch, version: str, **troubles: Any) -> None:
    """Say what the process that builds plans finds."""
    settings = {"providers": ["cuda-python"], "tensorrt": version}
    monkeypatch.setenv("EMBEDGE_SIMULATED", json.dumps(settings))
    monkeypatch.setenv("EMBEDGE_SIMULATED_TROUBLES", Troubles(**troubles).to_json())


def on_the_processor(path: Path, texts: list[str]) -> NDArray[Any]:
    with Embedder.open(path, config=RuntimeConfig(backend="onnxruntime", lanes=1, warm_up_seconds=0)) as embedder:
        return np.asarray(embedder.embed(texts))


@contextmanager
def slot_of(runner: Any, model: BackendModel) -> Iterator[tuple[DeviceSlot, Program]]:
    """Open a lane's slot and program, as a lane does."""
    slot = runner.slot(threads=1, wake=lambda: None)
    program = Program(model.bundle.manifest, {name: slot.open(name, model.bundle.graph(name)) for name in model.graphs})
    try:
        yield slot, program
    finally:
        program.close()
        slot.close()


def batches(model: BackendModel, tower: str) -> list[Batch]:
    """Return batches of both buckets, short and long in turn, each of other rows than the one before."""
    form = model.probes.layouts[tower]
    made = []
    for rows, length in ((1, 3), (8, 4), (2, 12), (1, 3), (3, 16), (2, 12), (8, 4)):
        batch = model.probes.batch(tower, rows, length)
        name = next(each for each, fill in form.fills.items() if fill.mask_of is None)
        array = batch.rows[0][name]
        others = [{**batch.rows[0], name: np.roll(array, row + len(made), axis=0)} for row in range(rows)]
        made.append(Batch(batch.towers, others, batch.lengths))
    return made


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1", "11.4.0"])
def test_embedding_gives_the_processors_vectors(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """From the bundle to vectors: the plan is built in a process of its own, proven, and run by two lanes."""
    child(monkeypatch, version)
    simulate("cuda-python", tensorrt=version, order="random", seed=5)
    path = tiny_bundle(tmp_path / "tiny")
    texts = [words(count % 25 + 1, seed=count) for count in range(40)]
    with Embedder.open(path, config=CONFIG) as embedder:
        first, again = embedder.embed(texts), embedder.embed(texts[::-1])[::-1]
        assert library.load()._state.engines == 1, "lanes share it"
    want = on_the_processor(path, texts)
    np.testing.assert_array_equal(first, want)
    np.testing.assert_array_equal(again, want)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans are built in this process."""
    monkeypatch.setattr("embedge.backends.tensorrt.backend.Builder", Here)


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
@pytest.mark.usefixtures("kept")
def test_a_lane_gives_the_processors_numbers_in_any_order(
    simulate: Simulate, tmp_path: Path, provider: str, order: str, seed: int
) -> None:
    """Steps that share a trunk, shapes that come back (A/B/A/B), captured graphs where there are any."""
    simulate(provider, tensorrt="11.4.0", order=order, seed=seed)
    model = model_of(tiny_heads(tmp_path / "heads"), CONFIG)
    runner = TensorRTBackend(CONFIG)
    runner.load(model)
    with slot_of(runner, model) as (_, program), slot_of(OnnxRuntimeBackend(CONFIG), model) as (_, reference):
        for _round in range(3):
            for batch in batches(model, "deep"):
                feeds = model.probes.feeds(batch)
                ours, theirs = (each.run(batch.towers, feeds)["deep"][1] for each in (program, reference))
                np.testing.assert_array_equal(ours["deep_out"], theirs["deep_out"])
    state = library.load()._state
    assert state.switches == 0
    assert state.engines == len(model.graphs)
    runner.close()


@pytest.mark.parametrize("integrated", [False, True])
@pytest.mark.usefixtures("kept")
def test_a_kernel_has_a_context_for_each_profile_and_keeps_it(
    simulate: Simulate, tmp_path: Path, integrated: bool
) -> None:
    simulate("cuda-python", tensorrt="11.4.0", device=Device(integrated=integrated))
    config = RuntimeConfig(max_batch_size=8, max_batch_tokens=256, cuda_graphs=0)
    model = model_of(tiny_bundle(tmp_path / "tiny"), config)
    runner = TensorRTBackend(config)
    runner.load(model)
    with slot_of(runner, model) as (_, program):
        for batch in batches(model, "text") * 2:
            program.run(batch.towers, model.probes.feeds(batch))
    assert library.load()._state.contexts == 2
    runner.close()


@pytest.mark.usefixtures("kept")
def test_a_batch_that_no_profile_holds_is_refused(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    runner = TensorRTBackend(CONFIG)
    runner.load(model)
    with slot_of(runner, model) as (_, program):
        large = model.probes.batch("text", 9, 8)
        with pytest.raises(BackendError, match=r"graph 'encoder': its plan is for batches up to input_ids \(8, 32\)"):
            program.run(large.towers, model.probes.feeds(large))
        small = model.probes.batch("text", 8, 8)
        program.run(small.towers, model.probes.feeds(small))
    runner.close()


@contextmanager
def lane(machine: Machine, tmp_path: Path) -> Iterator[tuple[TensorRTExecutable, Any, Any]]:
    """Give a kernel, a stream, and memory for its tensors."""
    driver = choose()
    driver.enter()
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    engine = Engine("encoder", model.bundle.manifest.graphs["encoder"], built(model, "encoder"))
    kernel = TensorRTExecutable(engine, Scratch(driver, engine.scratch))
    with closing(driver.stream()) as stream, closing(driver.memory(3 << 12)) as memory, closing(kernel):
        yield kernel, stream, memory
        machine.synchronise_stream(stream.handle)
    driver.leave()


def bound(memory: Any, rows: int, length: int) -> tuple[Any, Any]:
    names = ("input_ids", "attention_mask")
    inputs = {name: (memory.pointer + (place << 12), (rows, length)) for place, name in enumerate(names)}
    return inputs, {"dense": (memory.pointer + (2 << 12), (rows, 16))}


def test_a_fork_has_contexts_of_its_own_and_the_same_scratch_memory(simulate: Simulate, tmp_path: Path) -> None:
    machine = simulate("cuda-python", tensorrt="11.4.0")
    with lane(machine, tmp_path) as (kernel, stream, memory):
        machine.memory.at(memory.pointer, 2 << 12).data[:] = 0
        before = machine.memory.free
        kernel.enqueue(*bound(memory, 1, 8), stream, None)
        first = before - machine.memory.free
        with closing(kernel.fork()) as fork:
            fork.enqueue(*bound(memory, 1, 8), stream, None)
            assert before - machine.memory.free == first > 0
            machine.synchronise_stream(stream.handle)
        kernel.enqueue(*bound(memory, 1, 8), stream, None)
        assert library.load()._state.contexts == 2


def test_an_output_of_another_shape_than_the_manifest_says_is_never_run(simulate: Simulate, tmp_path: Path) -> None:
    machine = simulate("cuda-python", tensorrt="11.4.0")
    with lane(machine, tmp_path) as (kernel, stream, memory):
        inputs, outputs = bound(memory, 2, 8)
        with pytest.raises(BackendError, match=r"it gives 'dense' the shape \(2, 16\), the manifest \(1, 16\)"):
            kernel.enqueue(inputs, {"dense": (outputs["dense"][0], (1, 16))}, stream, None)


def test_a_plan_of_another_version_is_incompatible_and_says_why(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    plan = built(model, "encoder").replace(b"11.4.0", b"10.3.0", 1)
    with pytest.raises(IncompatiblePlan, match=r"TensorRT 11\.4\.0 does not take the plan: .*version 10\.3\.0"):
        Engine("encoder", model.bundle.manifest.graphs["encoder"], plan)


def test_a_plan_that_does_not_fit_is_built_anew(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child(monkeypatch, "11.4.0")
    simulate("cuda-python", tensorrt="11.4.0")
    caplog.set_level("INFO", "embedge.backends.tensorrt.plans")
    model = model_of(tiny_bundle(tmp_path / "tiny"), CONFIG)
    TensorRTBackend(CONFIG).load(model)
    tried: list[int] = []
    real = Engine.__init__

    def stubborn(self: Engine, name: str, graph: Any, plan: bytes) -> None:
        tried.append(len(plan))
        real(self, name, graph, b"made elsewhere" if len(tried) == 1 else plan)

    monkeypatch.setattr(Engine, "__init__", stubborn)
    TensorRTBackend(CONFIG).load(model)
    assert len(tried) == 2
    assert "does not take the plan" in caplog.text
    assert "rebuilding it" in caplog.text
    assert caplog.text.count("built in") == 2


@pytest.mark.usefixtures("kept")
def test_a_gpu_without_memory_for_the_plan_is_told_and_nothing_is_built_anew(
    simulate: Simulate, tmp_path: Path
) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    library.load()._troubles.full = True
    with pytest.raises(BackendError, match="the GPU has no memory left for its plan"):
        TensorRTBackend(CONFIG).load(model_of(tiny_bundle(tmp_path / "tiny"), CONFIG))
    assert library.load()._state.builds == 1


@pytest.mark.usefixtures("kept")
def test_a_plan_that_needs_more_scratch_memory_than_allowed_is_refused(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    config = RuntimeConfig(scratch_bytes=100)
    with pytest.raises(BackendError, match="and scratch_bytes allows 100; raise it, or lower max_batch_size"):
        TensorRTBackend(config).load(model_of(tiny_bundle(tmp_path / "tiny"), config))


def test_plans_that_are_not_to_be_built_are_asked_for(simulate: Simulate, tmp_path: Path) -> None:
    simulate("cuda-python", tensorrt="11.4.0")
    path = tiny_bundle(tmp_path / "tiny")
    config = RuntimeConfig(build_plans=False)
    with pytest.raises(Unavailable, match=f"the plans of encoder are missing.*embedge build {path}"):
        TensorRTBackend(config).load(model_of(path, config))


def test_what_the_gate_refused_leaves_the_model_to_another_backend(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    child(monkeypatch, "10.3.0", company=0.4)
    simulate("cuda-python", tensorrt="10.3.0")
    path = tiny_bundle(tmp_path / "tiny")
    with Embedder.open(path, config=RuntimeConfig(lanes=1, warm_up_seconds=0)) as embedder:
        vectors = embedder.embed(["a red cat"])
    passed = next(line for line in caplog.messages if "backend tensorrt is passed over" in line)
    assert "it has no plan for this GPU: the plan of graph 'encoder' is wrong on this device" in passed
    np.testing.assert_array_equal(vectors, on_the_processor(path, ["a red cat"]))


@pytest.mark.usefixtures("kept")
def test_after_the_context_broke_lanes_have_engines_of_the_new_one(simulate: Simulate, tmp_path: Path) -> None:
    machine = simulate("cuda-python", tensorrt="11.4.0")
    path = tiny_bundle(tmp_path / "tiny")
    with Embedder.open(path, config=CONFIG) as embedder:
        want = embedder.embed(["a red cat"])
        recovered = threading.Event()  # set by a lane's thread, waited for by the test's
        embedder.watch(lambda serving: recovered.set() if serving and library.load()._state.engines == 2 else None)
        machine.faults.fail()
        with pytest.raises((BackendError, Unavailable)):
            embedder.embed(["a red cat"])
        assert recovered.wait(30)
        np.testing.assert_array_equal(embedder.embed(["a red cat"]), want)

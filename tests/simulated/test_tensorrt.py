"""The rules of the simulated TensorRT, each broken once, and its numbers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge.backends.tensorrt import library
from embedge.backends.tensorrt.engine import Engine
from tests.simulated.errors import Failure, Violation
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.install import simulated
from tests.simulated.machine import Machine
from tests.simulated.tensorrt import Troubles, build
from tests.simulated.tensorrt.built import built, model_of
from tests.tiny import tiny_bundle

_ = simulate
BROKEN = (Violation, Failure)
IDS = np.array([[2, 9, 3], [2, 11, 3]], np.int64)


@dataclass
class Rig:
    """A context of a tiny model, all that it needs, and its outputs."""

    machine: Machine
    trt: Any
    engine: Any

    def __post_init__(self) -> None:
        self.machine.init()
        self.machine.contexts.push(self.machine.retain().handle)
        self.streams = [self.machine.stream().handle, self.machine.stream().handle]
        self.event = self.machine.event().handle
        self.memory = [self.machine.allocate(4096) for _ in range(3)]
        self.scratch = self.machine.allocate(1 << 20)

    def context(self, profile: int = 0) -> Any:
        made = self.engine.raw.create_execution_context(self.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        assert made.set_optimization_profile_async(profile, self.streams[0])
        made.set_device_memory(self.scratch.base, 1 << 20)
        return made

    def bind(self, context: Any) -> None:
        inputs = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}
        for (name, array), region in zip(inputs.items(), self.memory, strict=False):
            assert context.set_input_shape(name, array.shape)
            assert context.set_tensor_address(name, region.base)
            self.machine.memory.at(region.base, array.nbytes).data[:] = np.frombuffer(array.tobytes(), np.uint8)
        assert context.set_tensor_address("dense", self.memory[2].base)

    def run(self, context: Any, stream: int = 0) -> bool:
        return bool(context.execute_async_v3(self.streams[stream]))

    def result(self, rows: int = 2) -> np.ndarray[Any, Any]:
        self.machine.synchronise_stream(self.streams[0])
        return self.machine.read(self.memory[2].base, (rows, 16), np.float32)

    def close(self) -> None:
        for stream in self.streams:
            self.machine.synchronise_stream(stream)
            self.machine.destroy_stream(stream)
        self.machine.destroy_event(self.event)
        for region in (*self.memory, self.scratch):
            self.machine.free(region.base)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with simulated(Machine(), "cuda-python", tensorrt="11.4.0") as machine:
        model = model_of(tiny_bundle(tmp_path / "tiny"))
        engine = Engine("encoder", model.bundle.manifest.graphs["encoder"], built(model, "encoder"))
        made = Rig(machine, library.load(), engine)
        yield made
        if not machine.contexts.stack[-1].destroyed:
            made.close()


def test_it_gives_the_numbers_of_the_graph(rig: Rig) -> None:
    context = rig.context()
    rig.bind(context)
    assert context.infer_shapes() == []
    assert context.get_tensor_shape("dense") == (2, 16)
    assert context.execute_async_v3(rig.streams[0])
    want = rig.engine.raw._content.compute({"input_ids": IDS, "attention_mask": np.ones_like(IDS)})["dense"]
    np.testing.assert_array_equal(rig.result(), want)


def test_inputs_may_be_refilled_after_the_event_and_not_before(rig: Rig) -> None:
    context = rig.context()
    rig.bind(context)
    assert context.set_input_consumed_event(rig.event)
    assert context.execute_async_v3(rig.streams[0])
    rig.machine.synchronise(rig.event)
    rig.machine.memory.at(rig.memory[0].base, IDS.nbytes).data[:] = 0
    want = rig.engine.raw._content.compute({"input_ids": IDS, "attention_mask": np.ones_like(IDS)})["dense"]
    np.testing.assert_array_equal(rig.result(), want)


def nothing_set(rig: Rig, context: Any) -> None:
    rig.run(context)


def no_address(rig: Rig, context: Any) -> None:
    for name in ("input_ids", "attention_mask"):
        context.set_input_shape(name, (2, 3))
    rig.run(context)


def crooked_address(rig: Rig, context: Any) -> None:
    context.set_tensor_address("dense", rig.memory[0].base + 64)


def other_stream(rig: Rig, context: Any) -> None:
    rig.bind(context)
    rig.run(context, 1)


def beyond_memory(rig: Rig, context: Any) -> None:
    rig.bind(context)
    context.set_tensor_address("dense", rig.memory[2].base + 4096)
    rig.run(context)


def crooked_scratch(rig: Rig, context: Any) -> None:
    context.set_device_memory(rig.scratch.base + 1, 100)


def little_scratch(rig: Rig, context: Any) -> None:
    context.set_device_memory(rig.scratch.base, 256)


def switched_profile(rig: Rig, context: Any) -> None:
    rig.bind(context)
    context.set_optimization_profile_async(1, rig.streams[0])
    rig.run(context)


def own_memory(rig: Rig, context: Any) -> None:
    rig.engine.raw.create_execution_context()


def cold_capture(rig: Rig, context: Any) -> None:
    rig.bind(context)
    rig.machine.begin_capture(rig.streams[0], "thread_local")
    try:
        rig.run(context)
    finally:
        rig.machine.destroy_graph(rig.machine.end_capture(rig.streams[0]).handle)


def host_code(rig: Rig, context: Any) -> None:
    rig.engine._runtime.engine_host_code_allowed = True


def second_logger(rig: Rig, context: Any) -> None:
    rig.trt.Runtime(_other_logger(rig.trt))


def other_thread(rig: Rig, context: Any) -> None:
    raised: list[Exception] = []

    def use() -> None:
        try:
            context.infer_shapes()
        except Violation as error:
            raised.append(error)

    thread = threading.Thread(target=use)  # owned by this test
    thread.start()
    thread.join()
    raise raised[0]


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (nothing_set, "no shape was set"),
        (no_address, "no address was set"),
        (crooked_address, "not aligned"),
        (other_stream, "second stream"),
        (beyond_memory, "no device address|reach beyond"),
        (crooked_scratch, "not aligned"),
        (little_scratch, "bytes of scratch memory"),
        (switched_profile, "no shape was set"),
        (own_memory, "memory of its own"),
        (cold_capture, "captured at"),
        (host_code, "code of the host"),
        (second_logger, "a second logger"),
        (other_thread, "belongs to thread"),
    ],
)
def test_a_rule_that_is_broken_is_told(rig: Rig, breaks: Callable[[Rig, Any], None], message: str) -> None:
    context = rig.context()
    with pytest.raises(BROKEN, match=message):
        breaks(rig, context)
    assert rig.machine.forgive()


def _other_logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None: ...

    return Logger()


def test_scratch_memory_without_which_nothing_runs(rig: Rig) -> None:
    made = rig.engine.raw.create_execution_context(rig.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    assert made.set_optimization_profile_async(0, rig.streams[0])
    rig.bind(made)
    with pytest.raises(BROKEN, match="no scratch memory"):
        made.execute_async_v3(rig.streams[0])
    rig.machine.forgive()


def test_scratch_memory_of_two_streams_is_a_race(rig: Rig) -> None:
    first = rig.context()
    rig.bind(first)
    assert rig.run(first)
    second = rig.engine.raw.create_execution_context(rig.trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    assert second.set_optimization_profile_async(0, rig.streams[1])
    second.set_device_memory(rig.scratch.base, 1 << 20)
    rig.bind(second)
    assert second.execute_async_v3(rig.streams[1])
    assert any("race" in each for each in rig.machine.forgive())


def test_a_captured_graph_is_stale_once_its_context_has_another_shape(rig: Rig) -> None:
    context = rig.context()
    rig.bind(context)
    assert context.execute_async_v3(rig.streams[0])
    rig.machine.begin_capture(rig.streams[0], "thread_local")
    assert context.execute_async_v3(rig.streams[0])
    graph = rig.machine.end_capture(rig.streams[0])
    ready = rig.machine.instantiate(graph.handle)
    rig.machine.launch(ready.handle, rig.streams[0])
    rig.machine.synchronise_stream(rig.streams[0])
    assert not rig.machine.violations
    assert context.set_input_shape("input_ids", (1, 3))
    rig.machine.launch(ready.handle, rig.streams[0])
    with pytest.raises(BROKEN):
        rig.machine.synchronise_stream(rig.streams[0])
    assert any("stale" in each for each in rig.machine.forgive())
    rig.machine.reset()


@pytest.mark.parametrize(("name", "shape"), [("input_ids", (7, 9)), ("input_ids", (0, 8)), ("nobody", (1, 1))])
def test_a_shape_outside_of_the_profile_is_refused_and_said(rig: Rig, name: str, shape: tuple[int, int]) -> None:
    context = rig.context()
    assert not context.set_input_shape(name, (700, 9) if shape == (7, 9) else shape)
    assert name in rig.engine.errors()


def test_a_plan_of_another_version_or_device_is_no_engine(tmp_path: Path) -> None:
    with simulated(Machine(), "cuda-python", tensorrt="10.3.0"):
        model = model_of(tiny_bundle(tmp_path / "tiny"))
        plan = built(model, "encoder")
    with simulated(Machine(), "cuda-python", tensorrt="11.4.0"):
        trt = library.load()
        runtime = trt.Runtime(library.logger(trt))
        assert runtime.deserialize_cuda_engine(plan) is None
        assert runtime.deserialize_cuda_engine(b"nothing") is None
        assert "10.3.0" in " ".join(library.logger(trt).messages.take())


@pytest.mark.parametrize("version", ["10.3.0", "10.16.1", "11.4.0"])
def test_each_version_has_its_own_flags(simulate: Simulate, version: str) -> None:
    simulate("cuda-python", tensorrt=version)
    trt = library.load()
    assert hasattr(trt.BuilderFlag, "FP16") == version.startswith("10")
    assert hasattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH") == version.startswith("10")
    assert not hasattr(trt.ICudaEngine, "device_memory_size")


def test_a_weakly_typed_network_and_a_flag_are_told(simulate: Simulate, tmp_path: Path) -> None:
    machine = simulate("cuda-python", tensorrt="10.3.0")
    trt = library.load()
    builder = trt.Builder(library.logger(trt))
    network, config = builder.create_network(), builder.create_builder_config()
    parser = trt.OnnxParser(network, library.logger(trt))
    assert parser.parse_from_file(str(tiny_bundle(tmp_path / "tiny") / "model.onnx"))
    with pytest.raises(BROKEN, match="weakly typed"):
        builder.build_serialized_network(network, config)
    network._flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    with pytest.raises(BROKEN, match="flags are set"):
        builder.build_serialized_network(network, config)
    machine.forgive()


def test_troubles_go_to_a_child_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDGE_SIMULATED_TROUBLES", Troubles(wrong=0.5, parse=[(1, "a", "b", "c")]).to_json())
    made = build(Machine(), "11.4.0")._troubles
    assert (made.wrong, made.parse) == (0.5, [[1, "a", "b", "c"]])

"""What lanes on a GPU tell, wait for and give back, in which order; see tests.mutations."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedge.backends.gpu import staging
from embedge.backends.gpu import stream as lane_stream
from embedge.backends.onnxruntime_cuda import _CudaSlot
from embedge.backends.tensorrt import backend as runner_module
from embedge.backends.tensorrt.engine import Engine
from embedge.backends.tensorrt.executable import Scratch, TensorRTExecutable
from embedge.cuda import CudaError, choose
from embedge.errors import BackendError
from tests.runtime.streams import Lane, Weigh, feeds, lane, same
from tests.simulated.device import Device
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.machine import Machine
from tests.simulated.tensorrt.built import Here, built, model_of
from tests.tiny import tiny_bundle

__all__ = ["simulate"]

BOARDS = {"server": Device(), "jetson": Device(integrated=True)}


def test_a_lane_that_breaks_the_context_in_closing_tells_the_others(simulate: Simulate) -> None:
    class Last(Weigh):
        def close(self) -> None:
            super().close()
            raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS")

    opened = Lane(simulate("cuda-python"), Last)
    with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
        opened.session.close()
    assert opened.woken == 1
    opened.slot.close()


def test_a_lane_that_breaks_the_context_in_opening_tells_the_others(simulate: Simulate) -> None:
    def refuse(*_: object) -> Any:
        raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS")

    with lane(simulate("cuda-python")) as opened:
        opened.slot._open_executable = refuse
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            opened.slot.open("other", Path("other.onnx"))
        assert opened.woken == 1


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("what", ["pinned", "event"])
@pytest.mark.parametrize("made", [0, 1, 2, 3])
def test_memory_that_is_not_enough_is_given_back(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, board: str, what: str, made: int
) -> None:
    """Two buffers need four pinned blocks and four events: any of them may be refused."""
    machine = simulate("cuda-python", device=BOARDS[board])
    with lane(machine) as opened:
        before, count = machine.memory.alive(), iter(range(made))
        real = getattr(opened.driver, what)

        def scarce(*args: Any) -> Any:
            if next(count, None) is None:
                raise CudaError("CUDA_ERROR_OUT_OF_MEMORY")
            return real(*args)

        with monkeypatch.context() as patch:
            patch.setattr(opened.driver, what, scarce)
            with pytest.raises(BackendError, match="no room for a batch"):
                opened.run(feeds(0))
        gc.collect()
        assert machine.memory.alive() == before
        same(*opened.run(feeds(1)), feeds(1))


def test_who_closes_a_stream_that_hangs_sleeps_between_two_looks(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Any] = []
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.append(now.pop() + seconds))
    monkeypatch.setattr(lane_stream, "_abandoned", left)
    machine = simulate("cuda-python", order="eager")
    opened = Lane(machine, settle_seconds=0.1)
    hang = machine.faults.hang()
    opened.session.start(feeds(0))
    with monkeypatch.context() as patch:
        patch.setattr(staging, "time", clock)
        opened.close()
    assert 0.1 < now[0] < 0.2
    with lane(machine):  # for the simulation's sake, which wants everything back
        hang.release()
        opened.session._patience = 5.0
        opened.session.close()
        opened.slot.lane._hung = False
        opened.slot.lane.close()


def test_shapes_begin_anew_where_the_memory_is_new(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        opened.run(feeds(0), feeds(1, (90, 90)), feeds(2))
        assert len(opened.session._graphs) == 0
        opened.run(feeds(3))
        assert len(opened.session._graphs) == 1


def test_a_graph_that_runs_alone_tells_of_a_broken_context_when_it_is_opened(simulate: Simulate) -> None:
    simulate("cuda-python")
    woken: list[int] = []
    spec = SimpleNamespace(shape=("found", 16))
    graphs = {"vague": SimpleNamespace(inputs=(), outputs=(spec,))}
    model: Any = SimpleNamespace(bundle=SimpleNamespace(manifest=SimpleNamespace(graphs=graphs)), config=None)

    class Broken(_CudaSlot):
        def _session(self, path: Path, stream: Any) -> Any:
            raise CudaError("CUDA_ERROR_ILLEGAL_ADDRESS")

    driver = choose()
    slot = Broken(driver, lambda: woken.append(1), model, buffers=2, largest={})
    with pytest.raises(CudaError):
        slot.open("vague", Path("vague.onnx"))
    assert woken == [1]
    slot.close()


class Plan:
    """A TensorRT engine in this thread, and two executables of it in one lane."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.machine = machine
        self.driver = choose()
        self.driver.enter()
        self.model = model_of(tiny_bundle(path / "tiny"))
        self.engine = Engine("encoder", self.model.bundle.manifest.graphs["encoder"], built(self.model, "encoder"))
        self.scratch = Scratch(self.driver, self.engine.scratch)
        self.executables = [TensorRTExecutable(self.engine, self.scratch) for _ in range(2)]
        self.stream = self.driver.stream()
        shape = self.engine.profiles[0]["input_ids"].least
        for kernel in self.executables:
            kernel._context(dict.fromkeys(self.engine.inputs, shape), self.stream)

    def close(self) -> None:
        self.machine.synchronise_stream(self.stream.handle)
        for kernel in self.executables:
            kernel.close()
        self.stream.close()
        self.driver.leave()


def test_a_kernel_that_is_closed_twice_leaves_the_others_their_scratch_memory(
    simulate: Simulate, tmp_path: Path
) -> None:
    machine = simulate("cuda-python", tensorrt="11.4.0")
    plan = Plan(machine, tmp_path)
    there = machine.memory.alive()
    for _ in range(2):
        plan.executables[0].close()
    assert machine.memory.alive() == there
    plan.close()
    assert machine.memory.alive() == []


def test_a_kernel_that_is_closed_holds_no_context(simulate: Simulate, tmp_path: Path) -> None:
    """Its device memory goes with the last executable, and a context must not outlive that."""
    machine = simulate("cuda-python", tensorrt="11.4.0")
    plan = Plan(machine, tmp_path)
    assert contexts() == 2
    plan.executables[0].close()
    assert contexts() == 1
    plan.close()


def contexts() -> int:
    """Return how many execution contexts there are."""
    gc.collect()
    return sum(type(each).__name__ == "IExecutionContext" for each in gc.get_objects())


def test_plans_are_made_ready_in_the_context_and_let_go_of_at_the_end(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one current, TensorRT would take the first GPU, whichever was asked for."""
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runner_module, "Builder", Here)
    machine = simulate("cuda-python", tensorrt="11.4.0")
    model = model_of(tiny_bundle(tmp_path / "tiny"))
    current: list[int] = []
    made: list[weakref.ref[Engine]] = []

    def engine(*args: Any) -> Engine:
        current.append(len(machine.contexts.stack))
        one = Engine(*args)
        made.append(weakref.ref(one))
        return one

    monkeypatch.setattr(runner_module, "Engine", engine)
    runner = runner_module.TensorRTBackend(model.config)
    runner.load(model)
    assert current == [1]
    assert machine.contexts.stack == []
    assert made[0]() is not None
    runner.close()
    gc.collect()
    assert made[0]() is None

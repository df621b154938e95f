"""Lanes on a GPU that meet at the worst moment. Each test falls without one lock or one word; see tests.mutations."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedge import RuntimeConfig, cuda
from embedge.backends.tensorrt import backend as runner_module
from embedge.backends.tensorrt.backend import TensorRTBackend
from embedge.cuda import CudaError, SharedContext
from embedge.cuda import context as context_module
from tests.runtime.cuda.rig import add_one, opened, provider
from tests.runtime.races import locks, race
from tests.simulated.fixtures import Simulate, simulate
from tests.simulated.install import PROVIDERS
from tests.simulated.tensorrt.built import Here, model_of
from tests.tiny_heads import tiny_heads

__all__ = ["simulate"]

FATAL = CudaError("CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered")


class Users:
    """A context with a lane that uses it, and lanes that ask for a driver."""

    def __init__(self) -> None:
        self.woken = 0
        nothing: Any = SimpleNamespace(name="cuda", enter=lambda: None, leave=lambda: None)
        self.context = SharedContext(nothing)
        self.context.join(self.wake)
        self.found: list[Any] = []
        cuda._drivers.clear()

    def wake(self) -> None:
        self.woken += 1

    def fail(self) -> None:
        self.context.fail(FATAL)

    def choose(self) -> None:
        self.found.append(cuda._driver("cuda-python", 0))


def test_a_lane_is_woken_once_when_two_others_see_the_context_break(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(users: Users) -> None:
        assert users.woken == 1

    locks(monkeypatch, context_module)
    race(Users, Users.fail, Users.fail, check, context_module)


def test_lanes_that_ask_at_once_have_one_driver(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    def check(users: Users) -> None:
        assert users.found[0] is users.found[1]

    simulate("cuda-python")
    locks(monkeypatch, cuda)
    monkeypatch.setattr(cuda, "_making", cuda.threading.Lock())
    race(Users, Users.choose, Users.choose, check, cuda)


@pytest.mark.parametrize("name", PROVIDERS)
def test_threads_that_enter_at_once_retain_the_context_once(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine = simulate(name)
    module = sys.modules[type(provider(name)).__module__]
    locks(monkeypatch, module)
    before: list[int] = []

    def make() -> Any:
        made = provider(name)
        assert not made.missing()
        before.append(machine.contexts.primary.retained if machine.contexts.primary else 0)
        return made

    def enter(driver: Any) -> None:
        driver.enter()
        driver.leave()

    def check(driver: Any) -> None:
        assert machine.contexts.primary.retained == before[-1] + 1

    race(make, enter, enter, check, module)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_thread_that_enters_during_a_reset_leaves_a_context_that_works(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    machine = simulate(name)
    module = sys.modules[type(provider(name)).__module__]
    locks(monkeypatch, module)

    made: list[Any] = []

    def make() -> Any:
        driver = provider(name)
        assert not driver.missing()
        driver.enter()
        driver.leave()
        return driver

    def work(driver: Any) -> None:
        driver.enter()
        made.append(driver.memory(64))
        driver.leave()
        assert machine.contexts.stack == []

    def check(driver: Any) -> None:
        driver.enter()
        made.pop().close()  # frees nothing, if it went with the old context
        driver.memory(64).close()
        driver.leave()
        driver.reset()
        assert machine.contexts.stack == []
        machine.reset()  # whatever else holds the context, as the drivers before this one do
        assert machine.memory.alive() == []

    race(make, lambda driver: driver.reset(), work, check, module)


def test_an_event_that_will_never_come_says_so(simulate: Simulate) -> None:
    machine = simulate("cuda-python")
    driver = provider("cuda-python")
    assert not driver.missing()
    driver.enter()
    with ExitStack() as stack:
        stream, event, memory = driver.stream(), driver.event(), driver.memory(64)
        opened(stack, stream, event, memory)
        machine.faults.fail()
        add_one(machine, stream, memory.pointer, 64)
        event.record(stream)
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            any(event.done() for _ in range(3))  # the machine runs one operation each time
    driver.leave()


@pytest.mark.parametrize("name", PROVIDERS)
def test_memory_that_is_dropped_while_a_thread_enters_is_freed(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The collector runs where it likes: also in a thread that is about to enter, and holds the lock for that."""
    machine = simulate(name)
    driver: Any = provider(name)
    assert not driver.missing()
    driver.enter()
    pinned = driver.pinned(64)
    views: list[np.ndarray] = [pinned.array[1:]]
    pinned.close()
    driver.leave()
    find = driver._device

    def device() -> Any:
        views.clear()
        return find()

    driver._context = None  # as if this thread were the first
    monkeypatch.setattr(driver, "_device", device)
    driver.enter()
    driver.leave()
    assert not views
    assert machine.memory.alive() == []


@pytest.fixture
def runner(simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TensorRTBackend:
    """TensorRT's backend with a model of several graphs."""
    monkeypatch.setenv("EMBEDGE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runner_module, "Builder", Here)
    simulate("cuda-python", tensorrt="11.4.0")
    config = RuntimeConfig(backend="tensorrt", max_batch_size=8, max_batch_tokens=256, warm_up_seconds=0)
    made = TensorRTBackend(config)
    made.load(model_of(tiny_heads(tmp_path / "heads"), config))
    return made


class Engines:
    """A backend whose engines went with their context, and lanes that want one."""

    def __init__(self) -> None:
        self.made: list[object] = []
        self.had: list[object] = []
        self.runner: Any = TensorRTBackend(RuntimeConfig())
        self.runner._model = SimpleNamespace(bundle=SimpleNamespace(manifest=SimpleNamespace(graphs={"encoder": None})))
        self.runner._plans = {"encoder": SimpleNamespace(read=lambda: b"")}
        self.runner._lost.set()

    def open(self) -> None:
        self.had.append(self.runner._engine("encoder"))

    def close(self) -> None:
        self.runner.close()


def test_lanes_that_open_at_once_share_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(engines: Engines) -> None:
        assert engines.had[0] is engines.had[1]

    locks(monkeypatch, runner_module)
    monkeypatch.setattr(runner_module, "Engine", lambda *_: object())
    race(Engines, Engines.open, Engines.open, check, runner_module)


def test_a_backend_that_closes_while_a_lane_opens_gives_it_its_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    locks(monkeypatch, runner_module)
    monkeypatch.setattr(runner_module, "Engine", lambda *_: object())
    race(Engines, Engines.open, Engines.close, lambda engines: None, runner_module)


def test_a_lane_that_opens_while_another_makes_the_engines_anew_has_all_its_memory(
    runner: TensorRTBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The context broke, and took the engines with it: for a while there is only one of them, or none."""
    slots: list[tuple[object, ...]] = []
    monkeypatch.setattr(runner_module, "Scratch", lambda driver, nbytes: slots.append((nbytes,)))
    monkeypatch.setattr(runner_module, "StreamSlot", lambda *_, largest, **__: slots.append(tuple(largest.items())))
    for _ in range(2):
        runner.slot(threads=1, wake=lambda: None)
        runner._engines.clear()  # as the other lane does
    assert slots[:2] == slots[2:]
    assert [name for name, _ in slots[1]] == list(runner._plans)

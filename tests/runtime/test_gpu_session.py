"""A lane on a GPU: batches that follow each other on one stream give each its own result, whatever the order."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge.backends.base import PendingArrays
from embedge.backends.gpu import staging
from embedge.errors import BackendError
from tests.runtime.streams import SHAPES, Lane, Weigh, feeds, lane, same, weighed
from tests.simulated.device import Device
from tests.simulated.fixtures import ORDERS, Simulate, simulate
from tests.simulated.install import simulated
from tests.simulated.machine import Machine

__all__ = ["simulate"]

BOARDS = {"server": Device(), "jetson": Device(integrated=True)}


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("buffers", [2, 3])
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_batches_in_flight_keep_their_contents_apart(
    simulate: Simulate, provider: str, buffers: int, board: str, order: str, seed: int
) -> None:
    machine = simulate(provider, order=order, seed=seed, device=BOARDS[board])
    batches = [feeds(number % 2, SHAPES[number % 3 // 2]) for number in range(24)]
    with lane(machine, buffers=buffers) as opened:
        for given_, found in zip(batches, pipeline(opened, batches), strict=True):
            same(found, given_)


@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
@pytest.mark.parametrize("board", BOARDS)
def test_two_lanes_beside_each_other(simulate: Simulate, provider: str, board: str) -> None:
    machine = simulate(provider, order="random", seed=3, device=BOARDS[board])
    failed: list[BaseException] = []

    def run(first: int) -> None:
        try:
            batches = [feeds(first + number % 2) for number in range(16)]
            with lane(machine) as opened:
                for given_, found in zip(batches, pipeline(opened, batches), strict=True):
                    same(found, given_)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(10 * number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9)), min_size=1, max_size=12),
    st.sampled_from(ORDERS),
    st.sampled_from(sorted(BOARDS)),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_any_batches_in_any_order(sizes: list[tuple[int, int]], order: Any, board: str, cuda_graphs: int) -> None:
    device = BOARDS[board]
    with (
        simulated(Machine(order=order[0], seed=order[1], device=device), "cuda-python") as machine,
        lane(machine, cuda_graphs=cuda_graphs) as opened,
    ):
        batches = [feeds(number, size) for number, size in enumerate(sizes)]
        for given_, found in zip(batches, pipeline(opened, batches), strict=True):
            same(found, given_)


@pytest.mark.parametrize("board", BOARDS)
def test_inputs_are_not_packed_over_those_that_the_gpu_has_not_read(simulate: Simulate, board: str) -> None:
    machine = simulate("cuda-python", device=BOARDS[board])  # late: nothing has run when the third is packed
    with lane(machine, cuda_graphs=0) as opened:
        for number in range(2):
            opened.session.start(feeds(number))  # nobody wants the results
        same(*opened.run(feeds(2)), feeds(2))
        nobody_wants_them(machine)


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("third", [(2, 8), (50, 80)])
def test_outputs_are_not_written_over_before_they_are_read(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, board: str, third: tuple[int, int]
) -> None:
    machine = simulate("cuda-python", device=BOARDS[board])
    batches = [feeds(0), feeds(1), feeds(2, third)]
    stuck, over = threading.Semaphore(0), threading.Event()
    lanes: list[Lane] = []
    started: queue.SimpleQueue[PendingArrays] = queue.SimpleQueue()

    class Noticed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if not self.is_set():
                stuck.release()
            return super().wait(timeout)

    def run() -> None:
        with lane(machine) as opened:
            lanes.append(opened)
            for each in batches:
                started.put(opened.session.start(each))
            stuck.release()
            over.wait()

    thread = threading.Thread(target=run, daemon=True)
    monkeypatch.setattr(staging, "threading", SimpleNamespace(Event=Noticed))
    thread.start()
    stuck.acquire()  # the lane waits for the first result to be read; or does not, and has begun the third batch
    lanes[0].slot.attach()
    try:
        found = [started.get()() for _ in batches]
    finally:
        lanes[0].slot.detach()
        over.set()
        thread.join()
    for given_, each in zip(batches, found, strict=True):
        same(each, given_)


def test_the_result_is_of_arrays_of_their_own(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        first = opened.run(feeds(0))[0]
        opened.run(*(feeds(number) for number in range(1, 5)))
        same(first, feeds(0))
        assert all(array.flags.owndata or array.base.flags.owndata for array in first.values())


def test_feeds_are_the_callers_again(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        given_ = feeds(0)
        wanted = weighed(given_)
        result = opened.session.start(given_)
        given_["ids"][:] = 0
        np.testing.assert_array_equal(result()["each"], wanted["each"])


def test_arrays_of_any_strides_are_packed(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        turned = {"ids": feeds(0, (8, 2))["ids"].T, "weight": np.broadcast_to(np.float32(3), (2,))}
        same(*opened.run(turned), turned)


def test_wrong_inputs_are_said_and_cost_nothing(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:
        for _ in range(4):
            with pytest.raises(BackendError, match="input 'ids' is int32, but the graph takes int64"):
                opened.run(feeds(0) | {"ids": np.zeros((2, 8), np.int32)})
            with pytest.raises(BackendError, match="graph 'encoder' takes an input 'weight'"):
                opened.run({"ids": np.zeros((2, 8), np.int64)})
        same(*opened.run(feeds(1)), feeds(1))


def test_results_that_nobody_calls_hold_nothing_up(simulate: Simulate) -> None:
    machine = simulate("cuda-python")
    with lane(machine) as opened:
        for number in range(7):
            opened.session.start(feeds(number))
        result = opened.session.start(feeds(9))
        same(result(), feeds(9))
        nobody_wants_them(machine)
        with pytest.raises(BackendError, match="called before"):
            result()


def test_memory_for_the_largest_batches_is_there_from_the_start(simulate: Simulate) -> None:
    machine = simulate("cuda-python")
    largest = [{name: array.shape for name, array in feeds(0, shape).items()} for shape in SHAPES]
    with lane(machine, largest={"encoder": largest}) as opened:
        there = machine.memory.alive()
        opened.run(*(feeds(number, shape) for number, shape in enumerate(SHAPES)))
        assert machine.memory.alive() == there
        opened.run(feeds(0, (99, 8)))
        assert machine.memory.alive() != there


@pytest.mark.parametrize("board", BOARDS)
def test_larger_batches_wait_until_nothing_uses_the_memory(simulate: Simulate, board: str) -> None:
    machine = simulate("cuda-python", device=BOARDS[board])
    with lane(machine) as opened:
        for number, shape in enumerate([(1, 1), (4, 8), (2, 2), (64, 32), (1, 1), (64, 64)]):
            opened.session.start(feeds(number, shape))  # late: it is in flight when the next one comes
        same(*opened.run(feeds(7)), feeds(7))
        nobody_wants_them(machine)


@pytest.mark.parametrize("board", BOARDS)
def test_closing_waits_for_what_is_in_flight(simulate: Simulate, board: str) -> None:
    with lane(simulate("cuda-python", device=BOARDS[board])) as opened:
        for number in range(2):
            opened.session.start(feeds(number))
    assert opened.executable.closed


def test_a_graph_without_inputs_runs(simulate: Simulate) -> None:
    class Start(Weigh):
        def __init__(self, machine: Machine) -> None:
            super().__init__(machine)
            self.inputs, self.outputs = {}, {"state": np.dtype(np.float32)}

        def shapes(self, inputs: Any) -> Any:
            return {"state": (1, 3)}

        def enqueue(self, inputs: Any, outputs: Any, stream: Any, consumed: Any) -> None:
            pointer, shape = outputs["state"]
            ones = np.ones(shape, np.float32)
            self.machine.enqueue(
                stream.handle, "compute", lambda: self.machine.write(pointer, ones), [], [(pointer, 12)]
            )

    with lane(simulate("cuda-python"), Start, largest={"encoder": [{}]}) as opened:
        for _ in range(5):
            np.testing.assert_array_equal(opened.session.start({})()["state"], np.ones((1, 3)))


def nobody_wants_them(machine: Machine) -> None:
    """Let results be lost that the test dropped, and nothing else be wrong."""
    assert all("overwritten by a copy-out" in each for each in machine.forgive())


def pipeline(opened: Lane, batches: list[dict[str, Any]]) -> list[Any]:
    """Start all batches in this thread, and call their results in another, as a lane does."""
    started: queue.SimpleQueue[PendingArrays | None] = queue.SimpleQueue()
    found: list[Any] = []

    def complete() -> None:
        opened.slot.attach()
        try:
            while (result := started.get()) is not None:
                found.append(result())
        finally:
            opened.slot.detach()

    completer = threading.Thread(target=complete, daemon=True)
    completer.start()
    try:
        for each in batches:
            started.put(opened.session.start(each))
    finally:
        started.put(None)
        completer.join()
    return found

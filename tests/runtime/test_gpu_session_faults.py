"""A lane on a GPU when something fails: every result raises, buffers are free again, and other lanes are woken."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from embedge.backends.gpu import stream as lane_stream
from embedge.cuda import CudaError
from embedge.errors import BackendError
from tests.runtime.streams import Lane, feeds, lane, same
from tests.simulated.device import Device
from tests.simulated.fixtures import ORDERS, Simulate, simulate
from tests.simulated.machine import Machine

__all__ = ["simulate"]

BOARDS = {"server": Device(), "jetson": Device(integrated=True)}


@pytest.mark.parametrize(("order", "seed"), ORDERS)
@pytest.mark.parametrize("provider", ["cuda-python", "pycuda"])
def test_a_kernel_that_fails_is_told_to_all_lanes_and_the_next_ones_run(
    simulate: Simulate, provider: str, order: str, seed: int
) -> None:
    machine = simulate(provider, order=order, seed=seed)
    with lane(machine) as opened:
        same(*opened.run(feeds(0)), feeds(0))
        opened.slot.check()
        machine.faults.fail()
        for number in range(5):  # more than the staging buffers: a failed batch frees its own
            with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
                opened.run(feeds(number))
        assert opened.woken == 1
        with pytest.raises(CudaError, match="ILLEGAL_ADDRESS"):
            opened.slot.check()
    with lane(machine) as opened:
        same(*opened.run(feeds(1)), feeds(1))
        opened.slot.check()


def test_a_lane_that_comes_back_is_not_held_up_by_a_result_that_nobody_calls(simulate: Simulate) -> None:
    machine = simulate("cuda-python")
    with lane(machine) as opened:
        machine.faults.fail()
        result = opened.session.start(feeds(0))
        with pytest.raises(CudaError):
            opened.session.start(feeds(1))()
    with lane(machine) as again:
        same(*again.run(feeds(2)), feeds(2))
    with pytest.raises((CudaError, ValueError)):
        result()


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("cuda_graphs", [0, 4])
def test_a_batch_that_is_refused_halfway_has_given_its_set_back(
    simulate: Simulate, board: str, cuda_graphs: int
) -> None:
    machine = simulate("cuda-python", device=BOARDS[board])  # late: what it enqueued is still to run

    def refuse() -> None:
        raise BackendError("no")

    with lane(machine, cuda_graphs=cuda_graphs) as opened:
        opened.executable.after = refuse
        for number in range(5):
            with pytest.raises(BackendError, match="no"):
                opened.session.start(feeds(number))
        opened.executable.after = lambda: None
        same(*opened.run(feeds(1)), feeds(1))


@pytest.mark.parametrize("board", BOARDS)
def test_closing_after_a_batch_that_was_refused_halfway(simulate: Simulate, board: str) -> None:
    with lane(simulate("cuda-python", device=BOARDS[board])) as opened:

        def refuse() -> None:
            raise BackendError("no")

        opened.executable.after = refuse
        with pytest.raises(BackendError, match="no"):
            opened.session.start(feeds(0))
    assert opened.executable.closed


@pytest.mark.parametrize("board", BOARDS)
def test_no_room_for_a_batch_fails_that_batch(simulate: Simulate, board: str) -> None:
    machine = simulate("cuda-python", device=BOARDS[board])
    with lane(machine) as opened:
        same(*opened.run(feeds(0)), feeds(0))
        fill(machine, opened)
        if board == "server":
            with pytest.raises(BackendError, match=r"'encoder': no room for a batch of [\d,]+ bytes in .* fewer lanes"):
                opened.run(feeds(0, (400, 100)))
        for number in range(3):
            same(*opened.run(feeds(number)), feeds(number))


def fill(machine: Machine, opened: Lane) -> None:
    """Let somebody else take all memory but a little."""
    machine.memory.taken = opened.driver.free_memory()[0] - 10_000


def test_no_room_for_the_largest_batch_is_said_when_it_is_opened(simulate: Simulate) -> None:
    machine = simulate("cuda-python")
    with lane(machine) as opened:
        fill(machine, opened)
        shapes = {name: array.shape for name, array in feeds(0, (400, 100)).items()}
        with pytest.raises(BackendError, match="no room"):
            Lane(machine, largest={"encoder": [shapes]})


def test_a_graph_that_cannot_be_opened_leaves_nothing(simulate: Simulate) -> None:
    with lane(simulate("cuda-python")) as opened:

        def refuse(name: str, path: Path, stream: Any) -> Any:
            raise BackendError("no such graph")

        opened.slot._open_executable = refuse
        with pytest.raises(BackendError, match="no such graph"):
            opened.slot.open("other", Path("other.onnx"))


@pytest.mark.parametrize("board", BOARDS)
def test_a_stream_that_hangs_does_not_hold_up_closing(
    simulate: Simulate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, board: str
) -> None:
    left: list[Any] = []
    monkeypatch.setattr(lane_stream, "_abandoned", left)
    machine = simulate("cuda-python", order="eager", device=BOARDS[board])
    opened = Lane(machine, settle_seconds=0.0)
    hang = machine.faults.hang()
    opened.session.start(feeds(0))
    with caplog.at_level(logging.ERROR):
        opened.close()
    assert "hangs; the memory of its graph encoder stays allocated" in caplog.text
    assert left == [opened.session, opened.slot.lane]
    assert not opened.executable.closed
    with lane(machine) as other:  # others go on
        same(*other.run(feeds(1)), feeds(1))
        hang.release()  # for the simulation's sake, which wants everything back
        opened.session._patience = 5.0
        opened.session.close()
        opened.slot.lane._hung = False
        opened.slot.lane.close()


def test_a_slot_that_cannot_be_opened_leaves_the_context(simulate: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = simulate("cuda-python")
    with lane(machine) as opened:

        def refuse(*, high: bool = False) -> Any:
            raise CudaError("CUDA_ERROR_OUT_OF_MEMORY")

        with monkeypatch.context() as patch:
            patch.setattr(opened.driver, "stream", refuse)
            with pytest.raises(CudaError, match="OUT_OF_MEMORY"):
                Lane(machine)
        machine.faults.fail()
        with pytest.raises(CudaError):
            opened.run(feeds(0))
    with lane(machine) as again:  # which would wait for the one that is not there
        same(*again.run(feeds(1)), feeds(1))

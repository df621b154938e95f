"""Executables for the simulated GPU, and a lane driven directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge import cuda
from embedge.backends.base import Arrays
from embedge.backends.gpu.executable import Bindings
from embedge.backends.gpu.slot import StreamSession, StreamSlot
from embedge.batches.shapes import Shape
from embedge.cuda import Event, Stream
from embedge.errors import BackendError
from tests.simulated.machine import Machine

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)
SHAPES = [(2, 8), (1, 4), (3, 5)]


def feeds(seed: int, shape: Shape = (2, 8)) -> dict[str, NDArray[Any]]:
    """Return inputs of a `Weigh`, which differ from seed to seed in all places."""
    numbers = np.arange(np.prod(shape), dtype=INT).reshape(shape) + 1000 * seed
    return {"ids": numbers, "weight": np.full(shape[:1], seed + 1, FLOAT)}


def weighed(given: Arrays) -> dict[str, NDArray[Any]]:
    """Return what a `Weigh` makes of them."""
    each = (given["ids"] * given["weight"][:, None]).astype(FLOAT)
    return {"each": each, "sum": each.sum(axis=1)}


def same(found: Arrays, given: Arrays) -> None:
    """Check a result."""
    wanted = weighed(given)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


class Weigh:
    """Multiplies integers with a weight for each row, and adds them up. Its scratch memory is its own until `close`."""

    def __init__(self, machine: Machine, *, capturable: bool = True) -> None:
        self.machine = machine
        self.inputs: Mapping[str, np.dtype[Any]] = {"ids": INT, "weight": FLOAT}
        self.outputs: Mapping[str, np.dtype[Any]] = {"each": FLOAT, "sum": FLOAT}
        self.capturable = capturable
        self.enqueued = 0
        self.closed = False
        self.after: Callable[[], None] = lambda: None  # is called once the work is enqueued
        self.scratch = cuda.choose().memory(256)

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"each": inputs["ids"], "sum": inputs["weight"]}

    def enqueue(self, inputs: Bindings, outputs: Bindings, stream: Stream, consumed: Event | None) -> None:
        capturing = any(stream.capture for stream in self.machine.scheduler.streams.values())

        def run() -> None:
            if capturing:
                self.check(inputs["ids"][1])
            made = weighed({name: self.machine.read(*at, self.inputs[name]) for name, at in inputs.items()})
            for name, (pointer, _) in outputs.items():
                self.machine.write(pointer, made[name])

        self.enqueued += 1
        self.prepare(inputs["ids"][1], capturing)
        assert all(pointer % 256 == 0 for pointer, _ in (*inputs.values(), *outputs.values()))
        reads, writes = _ranges(self.inputs, inputs), _ranges(self.outputs, outputs)
        self.machine.enqueue(
            stream.handle, "compute", run, reads, [*writes, (self.scratch.pointer, 256)], 1e-3, "weigh"
        )
        self.after()
        if consumed is not None:
            assert consumed.handle  # TensorRT is given that
            consumed.record(stream)

    def prepare(self, shape: Shape, capturing: bool) -> None:
        """Get ready for a shape, when it is enqueued or recorded."""

    def check(self, shape: Shape) -> None:
        """Look at the state, while what was recorded runs."""

    def close(self) -> None:
        self.closed = True
        self.scratch.close()


class Stateful(Weigh):
    """Depends on the shape that it ran at last, as a context of TensorRT: what was recorded at another one is void."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.latest: Shape | None = None
        self.forks: list[Stateful] = []

    def prepare(self, shape: Shape, capturing: bool) -> None:
        if capturing and self.latest != shape:
            self.machine.violate("a run is recorded at a shape that the kernel did not run at before")
        self.latest = shape

    def check(self, shape: Shape) -> None:
        if self.latest != shape:
            self.machine.violate("the kernel had another shape since this run was recorded")

    def fork(self) -> Stateful:
        self.forks.append(Stateful(self.machine))
        return self.forks[-1]


class Lane:
    """A slot, opened in this thread.

    Attributes:
        executables: Those that it opened.
    """

    def __init__(self, machine: Machine, make: Callable[[Machine], Any] = Weigh, **settings: Any) -> None:
        self.driver = cuda.choose()
        self.context = cuda.SharedContext.of(self.driver)
        self.executables: list[Any] = []
        self.woken = 0
        self._make = lambda: make(machine)
        self.slot = StreamSlot(self.driver, self.context, self._wake, self._open, **settings)
        try:
            self.session: StreamSession = self.slot.open("encoder", Path("encoder.onnx"))  # type: ignore[assignment]
        except BackendError:
            self.slot.close()
            raise

    @property
    def executable(self) -> Any:
        return self.executables[0]

    def close(self) -> None:
        self.session.close()
        self.slot.close()

    def run(self, *given: dict[str, NDArray[Any]]) -> list[Arrays]:
        """Run one batch after the other, and return what came of them."""
        return [self.session.start(each)() for each in given]

    def _open(self, name: str, path: Path, stream: Stream) -> Any:
        self.executables.append(self._make())
        return self.executables[-1]

    def _wake(self) -> None:
        self.woken += 1


@contextmanager
def lane(machine: Machine, make: Callable[[Machine], Any] = Weigh, **settings: Any) -> Iterator[Lane]:
    """Open a lane in this thread, and close it at the end."""
    opened = Lane(machine, make, **settings)
    try:
        yield opened
    finally:
        opened.close()


def _ranges(dtypes: Mapping[str, np.dtype[Any]], bound: Bindings) -> Sequence[tuple[int, int]]:
    return [(at, int(np.prod(shape)) * dtypes[name].itemsize) for name, (at, shape) in bound.items()]

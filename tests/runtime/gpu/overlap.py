"""How much lanes and batches in flight overlap, with modelled times: real streams and staging, in virtual time.

One thread plays all: what happens next is what the lane or the results thread whose clock is least does. The GPU
copies in, computes and copies out at the same time, one thing of each; Python runs in one thread at a time; memory is
copied in as many as want to. All figures are the model's, nothing was measured on a GPU.

    python -m tests.runtime.gpu.overlap trace.json    # the figures, and a trace of three lanes with images
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge import cuda, trace
from embedge.backends.gpu.executable import Bindings
from embedge.backends.gpu.slot import StreamSlot
from embedge.batches.shapes import Shape
from embedge.cuda import Event, Stream
from tests.simulated.install import simulated
from tests.simulated.machine import Machine

__all__ = ["IMAGES", "TEXTS", "Run", "Work", "overlap"]

HOST_BANDWIDTH = 8e9  # bytes a second that one thread copies; assumed
PAD_SECONDS = 60e-6  # of Python before a batch begins: taking it, laying it out; assumed, from docs/tuning.md
LAUNCH_SECONDS = 10e-6  # of Python to enqueue a recorded batch: some calls of 1 to 4 µs each; assumed
FINISH_SECONDS = 50e-6  # of Python once a batch is done: waking up, handing it over; assumed, from docs/tuning.md


@dataclass(frozen=True)
class Work:
    """Batches of one kind. shape: of the input. width: numbers of a vector. compute: seconds on the GPU."""

    name: str
    shape: Shape
    dtype: str
    width: int
    compute: float

    @property
    def copying(self) -> float:
        """Seconds in which the host puts rows beside each other, and then into page-locked memory."""
        return 2 * int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize / HOST_BANDWIDTH


# all-MiniLM-L6-v2, 8 texts of 16 tokens: 6 layers of some 12 kernels, which are short: 2.9 µs each on a V100, says
# https://developer.nvidia.com/blog/cuda-graphs.
TEXTS = Work("8 short texts", (8, 2, 16), "int64", 384, 72 * 2.9e-6)
# CLIP ViT-B/32, 8 images: 4.4 billion multiply-adds each (https://arxiv.org/abs/2010.11929), at 30 TFLOP/s, assumed.
IMAGES = Work("8 images", (8, 3, 224, 224), "float32", 512, 8 * 2 * 4.4e9 / 30e12)


class Modelled:
    """A kernel that takes the time that the model says; it repeats the first number of each row."""

    capturable = False

    def __init__(self, machine: Machine, work: Work) -> None:
        self.inputs: Mapping[str, np.dtype[Any]] = {"x": np.dtype(work.dtype)}
        self.outputs: Mapping[str, np.dtype[Any]] = {"y": np.dtype(np.float32)}
        self._machine = machine
        self._work = work

    def shapes(self, inputs: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"y": (inputs["x"][0], self._work.width)}

    def enqueue(self, inputs: Bindings, outputs: Bindings, stream: Stream, consumed: Event | None) -> None:
        (source, given), (target, made) = inputs["x"], outputs["y"]

        def run() -> None:
            first = self._machine.read(source, given, self.inputs["x"]).reshape(given[0], -1)[:, :1]
            self._machine.write(target, np.broadcast_to(first, made).astype(np.float32))

        reads = [(source, int(np.prod(given)) * self.inputs["x"].itemsize)]
        writes = [(target, int(np.prod(made)) * 4)]
        self._machine.enqueue(stream.handle, "compute", run, reads, writes, self._work.compute, "compute")

    def close(self) -> None: ...


@dataclass
class Run:
    """What came of a run. seconds: of virtual time for all batches. spans: track, name, start and end."""

    seconds: float = 0.0
    spans: list[tuple[str, str, float, float]] = field(default_factory=list)


class PlayedLane:
    """A lane with its results thread. busy, told: until when each of them has something to do."""

    def __init__(self, machine: Machine, work: Work, depth: int, name: str, run: Run) -> None:
        self.name = name
        self.busy = self.told = self.space = 0.0
        self._machine = machine
        self._work = work
        self._depth = depth
        self._run = run
        self._flights: deque[tuple[Callable[[], Mapping[str, NDArray[Any]]], float, float]] = deque()
        driver = cuda.choose()
        self._slot = StreamSlot(
            driver, cuda.SharedContext.of(driver), lambda: None, lambda *_: Modelled(machine, work), buffers=depth
        )
        self._session = self._slot.open("encoder", Path("encoder.onnx"))

    @property
    def stream(self) -> int:
        return self._slot.lane.stream.handle

    def begins(self) -> float:
        """Return when the lane can begin another batch; infinity while it is full."""
        return max(self.busy, self.space) if len(self._flights) < self._depth else float("inf")

    def ends(self) -> float:
        """Return when the next result can be handed over."""
        return max(self.told, self._flights[0][1]) if self._flights else float("inf")

    def begin(self, number: int) -> None:
        """Lay out a batch, pack it and enqueue it, as a lane's thread does."""
        self._machine.clock.be(self.begins())
        self._python("prepare", PAD_SECONDS)
        self._span("copy", self.name, self._work.copying)
        self._python("enqueue", LAUNCH_SECONDS)
        result = self._session.start({"x": np.full(self._work.shape, number, self._work.dtype)})
        self.busy = self._machine.now()
        self._flights.append((result, self._machine.scheduler.streams[self.stream].ready, float(number)))

    def end(self) -> None:
        """Wait for a batch and hand it over, as its second thread does; with one in flight the lane's own."""
        self._machine.clock.be(self.ends())
        result, _, number = self._flights.popleft()
        if not (result()["y"] == number).all():
            raise AssertionError("a batch has the result of another one")
        self._python("finish", FINISH_SECONDS, results=self._depth > 1)
        self.told = self.space = self._machine.now()
        if self._depth == 1:
            self.busy = self.told

    def close(self) -> None:
        self._session.close()
        self._slot.close()

    def _python(self, name: str, seconds: float, *, results: bool = False) -> None:
        """Hold Python's lock, which one thread at a time has."""
        start, _ = self._machine.clock.use("python", 0, name, self._machine.now(), seconds)
        self._machine.clock.reach(start)
        self._span(name, f"{self.name} results" if results else self.name, seconds)

    def _span(self, name: str, track: str, seconds: float) -> None:
        start = self._machine.now()
        self._machine.spend(seconds)
        self._run.spans.append((track, name, start, self._machine.now()))


def overlap(work: Work, *, lanes: int, depth: int, batches: int = 24) -> Run:
    """Run batches on so many lanes, each with so many in flight. One lane and one in flight: a synchronous stream."""
    run = Run()
    with (
        simulated(Machine(order="eager"), "cuda-python") as machine,
        _lanes(machine, work, lanes, depth, run) as opened,
    ):
        _play(opened, batches)
        run.seconds = max(lane.told for lane in opened)
        names = {lane.stream: f"{lane.name} stream" for lane in opened}
        for each in machine.timeline:
            if each.stream in names:
                run.spans.append((names[each.stream], each.engine.replace("-", " "), each.start, each.end))
    return run


def _play(lanes: Sequence[PlayedLane], batches: int) -> None:
    """Always do what comes next, until all batches are handed over."""
    begun = ended = 0
    while ended < batches:
        first, last = min(lanes, key=PlayedLane.begins), min(lanes, key=PlayedLane.ends)
        if begun < batches and first.begins() <= last.ends():
            first.begin(begun)
            begun += 1
        else:
            last.end()
            ended += 1


@contextmanager
def _lanes(machine: Machine, work: Work, count: int, depth: int, run: Run) -> Iterator[list[PlayedLane]]:
    opened = [PlayedLane(machine, work, depth, f"lane {number}", run) for number in range(count)]
    try:
        yield opened
    finally:
        for lane in opened:
            lane.close()


def write(run: Run, file: Path) -> None:
    """Write the schedule as a trace."""
    with trace.record(file):
        origin = time.perf_counter()
        for track, name, start, end in run.spans:
            trace.span(track, name, origin + start, origin + end)


if __name__ == "__main__":
    for each in (TEXTS, IMAGES):
        alone = overlap(each, lanes=1, depth=1).seconds
        for depth in (1, 2, 3):
            gains = [alone / overlap(each, lanes=lanes, depth=depth).seconds for lanes in (1, 2, 3, 4)]
            sys.stdout.write(f"{each.name}, {depth} in flight: {' '.join(f'{gain:.2f}' for gain in gains)}\n")
    write(overlap(IMAGES, lanes=3, depth=2, batches=12), Path(sys.argv[1]))

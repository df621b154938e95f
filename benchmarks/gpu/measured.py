"""The measurements of one model in one precision."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.gpu import measure
from benchmarks.gpu.cases import Case, Items, model_of
from benchmarks.gpu.lanes import Lanes, Way
from benchmarks.gpu.measure import Pace
from benchmarks.gpu.peers import PlainOnnxRuntime, PyTorch
from benchmarks.gpu.records import Latency, Parity, Rate, Ratio
from embedge.backends import Arrays
from embedge.config import RuntimeConfig
from embedge.errors import BackendError
from embedge_bench.results import Estimate

__all__ = ["LANES", "LIMITS", "OVERLAP", "Found", "Measured"]

log = logging.getLogger("benchmarks.gpu")

LANES = 3
OVERLAP = 1.3
"""Least throughput of three lanes, relative to one stream that waits for each small batch."""

# What the gate of an export allows the lowest cosine to miss, see docs/export.md.
LIMITS = {"float32": 1e-5, "float16": 2e-4, "bfloat16": 2e-3}
_OTHER = 0.01  # what lacks more of a cosine of 1 is no rounding
SMALL, LARGE, LONE = (4, 32), (32, 128), (1, 32)
"""Batch shapes: rows and length. Images have a fixed length."""


@dataclass
class Found:
    """Results so far."""

    missing: list[str]
    versions: dict[str, str] = field(default_factory=dict)
    parity: list[Parity] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    ratios: list[Ratio] = field(default_factory=list)


class Measured:
    """Measures each available backend beside its alternatives. Reports a failure, and goes on."""

    def __init__(
        self, case: Case, precision: str, found: Found, pace: Pace, backends: Sequence[str], *, torch: bool
    ) -> None:
        """`backends`, `torch`: what is here."""
        self._path = case.bundles[precision]
        self._items = Items(model_of(self._path, RuntimeConfig()))
        self._about: dict[str, Any] = {"model": case.name, "precision": precision}
        self._case = case
        self._found = found
        self._pace = pace
        self._backends = backends
        self._torch = torch

    def all(self) -> None:
        """Measure everything."""
        for backend in self._backends:
            self._part("parity", self._parity, backend)
            self._part("overlap", self._overlap, backend)
            self._part("latency", self._latency, backend)
        if self._backends or self._torch:
            self._part("throughput", self._throughput, *self._backends)

    def _part(self, what: str, part: Callable[..., None], *backends: str) -> None:
        """Run one part, and close its implementations. A failure must not stop the other parts."""
        about = f"{self._about['model']}, {self._about['precision']}, {what}, {', '.join(backends)}"
        with self._told(about), ExitStack() as stack:
            part(stack, *backends)

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # any library's: the run says so and goes on
            log.exception("%s failed", what)
            self._found.missing.append(f"{what}: failed: {error}")

    def _parity(self, stack: ExitStack, backend: str) -> None:
        lanes = self._lanes(stack, backend)
        self._found.versions[backend] = lanes.version
        reference = self._case.reference()
        apart, invariance = measure.parity(lanes, self._items, reference, length_multiple=lanes.length_multiple)
        limit = LIMITS[self._about["precision"]]
        rows = len(reference[0])
        self._found.parity.append(
            Parity(**self._about, way=backend, rows=rows, gap=apart, invariance=invariance, limit=limit)
        )

    def _overlap(self, stack: ExitStack, backend: str) -> None:
        one = self._lanes(stack, backend, max_in_flight=1, name=f"{backend}, 1 synchronous stream")
        many = self._lanes(stack, backend, lanes=LANES)
        found = measure.rates([many, one], self._drawn(SMALL, self._pace.batches, one.length_multiple), self._pace)
        value = measure.quotients(found, many.name, one.name)
        self._ratio("overlap", many, one, SMALL, value, OVERLAP)

    def _latency(self, stack: ExitStack, backend: str) -> None:
        """Measure one row alone, without CUDA graphs, and with them if lanes capture any."""
        plain = self._lanes(stack, backend, cuda_graphs=0, name=f"{backend}, nothing recorded")
        ways = [plain]
        if backend == "tensorrt":
            ways.append(self._lanes(stack, backend, name=f"{backend}, recorded graphs"))
        else:
            self._found.missing.append(f"{backend}: its lanes record no graphs, so none are compared")
        found = measure.times(ways, self._drawn(LONE, 1, plain.length_multiple)[0], self._pace)
        for way in ways:
            p50, p99 = (measure.compared(found, rank, 1e3)[way.name] for rank in (50, 99))
            shape = self._shape(LONE)
            self._found.latencies.append(Latency(**self._about, way=way.name, shape=shape, p50=p50, p99=p99))
        for way in ways[1:]:  # the time of the base over the way's own: how many times as fast it is
            self._ratio("latency", way, plain, LONE, measure.quotients(found, plain.name, way.name))

    def _throughput(self, stack: ExitStack, *backends: str) -> None:
        """Measure everything available in the same rounds."""
        ours = [self._lanes(stack, backend, lanes=LANES) for backend in backends]
        peers = self._peers(stack)
        length_multiple = max((lanes.length_multiple for lanes in ours), default=1)
        for shape in (SMALL, LARGE):
            found = measure.rates([*ours, *peers], self._drawn(shape, self._pace.batches, length_multiple), self._pace)
            for way, rows in measure.compared(found).items():
                self._found.rates.append(Rate(**self._about, way=way, shape=self._shape(shape), rows=rows))
            for lanes in ours:
                for peer in peers:
                    value = measure.quotients(found, lanes.name, peer.name)
                    self._ratio("throughput", lanes, peer, shape, value)

    def _peers(self, stack: ExitStack) -> list[Way]:
        """Open the available alternatives, PyTorch in both precisions."""
        ways: list[Way] = []
        if "onnxruntime-cuda" in self._backends:
            with self._told(f"{self._case.name}, {self._about['precision']}, plain ONNX Runtime"):
                ways.append(self._tried(stack.enter_context(closing(PlainOnnxRuntime(self._path)))))
        for precision in ("float32", "float16") if self._torch else ():
            program = self._case.program(precision)
            if program is None:
                self._found.missing.append(f"{self._case.name}: there is no program for PyTorch in {precision}")
                continue
            with self._told(f"{self._case.name}, PyTorch, {precision}"):
                ways.append(self._tried(stack.enter_context(closing(PyTorch(program, name=f"PyTorch, {precision}")))))
        return ways

    def _tried(self, way: Way) -> Way:
        """Return a way that gives vectors of the right direction, however coarse. Raises what it raises, BackendError.

        What does not run, or computes something else, would otherwise cost the others their round.
        """
        apart, _ = measure.parity(way, self._items, self._case.reference())
        if apart > _OTHER:
            raise BackendError(f"its vectors are not the model's: {apart} from the cosine 1; it is not compared")
        return way

    def _lanes(self, stack: ExitStack, backend: str, *, lanes: int = 1, name: str = "", **settings: Any) -> Lanes:
        name = name or f"{backend}, {lanes} lanes"
        return stack.enter_context(closing(Lanes(backend, self._path, lanes=lanes, name=name, **settings)))

    def _drawn(self, shape: tuple[int, int], count: int, length_multiple: int) -> list[Arrays]:
        return [self._items.feeds(self._items.batch(*shape, seed=seed), length_multiple) for seed in range(count)]

    def _shape(self, shape: tuple[int, int]) -> str:
        return f"{shape[0]} x {self._items.longest(shape[1])}"

    def _ratio(
        self, what: str, way: Way, base: Way, shape: tuple[int, int], value: Estimate, target: float | None = None
    ) -> None:
        at = self._shape(shape)
        self._found.ratios.append(
            Ratio(**self._about, what=what, way=way.name, base=base.name, shape=at, value=value, target=target)
        )

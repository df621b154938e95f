"""The gate on the device: a plan is used only if it gives the graph's results on this GPU.

At the corners of every profile, the gate compares its outputs with ONNX Runtime's on the CPU, and each row of a full
batch with the same row alone. TensorRT has been wrong in both, on some devices and versions and not on others. If lanes
replay CUDA graphs, the gate compares those with plain runs; if they differ, the plan is used without them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge import outputs
from embedge.backends import Arrays, Session
from embedge.backends.gpu.slot import StreamSession, StreamSlot
from embedge.backends.tensorrt.engine import Engine
from embedge.backends.tensorrt.executable import Scratch, TensorRTExecutable
from embedge.backends.tensorrt.plans.record import CAPTURED
from embedge.bundle import Bundle
from embedge.bundle.manifest import Graph
from embedge.bundle.output_specs import Output, ScoresOutput
from embedge.cuda import Driver, SharedContext, Stream
from embedge.verify import compare
from embedge_export.tensorrt.reference import CornerCase, OnnxReference
from embedge_export.thresholds import Gate

__all__ = ["Miss", "prove"]

log = logging.getLogger("embedge.tensorrt")

_TINY = 1e-12
_SETS = 2  # staging buffers, as lanes have by default
_TURNS = 6 * _SETS  # a shape runs plainly twice, is captured, and replayed three times


class Miss(Exception):
    """The plan's results are wrong on this GPU. The message names the metric, its threshold and the case.

    Attributes:
        figures: The metrics so far.
    """

    def __init__(self, text: str, figures: dict[str, float]) -> None:
        super().__init__(text)
        self.figures = figures


def prove(
    bundle: Bundle, graph: str, engine: Engine, driver: Driver, reference: OnnxReference, *, cuda_graphs: int = 1
) -> dict[str, float]:
    """Return the metrics of a plan that passes. Call this in a thread that has entered.

    Args:
        bundle: The model.
        graph: The graph's name.
        engine: Its plan, deserialized.
        driver: The GPU.
        reference: Gives the expected outputs.
        cuda_graphs: 0 if lanes capture nothing.

    Returns:
        Metrics by name. CUDA graphs may be used only if theirs are among them.

    Raises:
        Miss: The results are wrong.
        PlanError: The bundle has nothing to compare with.
        CudaError: A call to CUDA failed.
    """
    spec = bundle.manifest.graphs[graph]
    judged = reference.computes(graph)
    judge = _Judge(graph, spec, judged)
    with _session(bundle, graph, engine, driver, cuda_graphs=0) as session:
        cases = list(reference.cases(graph, None if judged else session))
        for case in cases:
            _corner(spec, case, session, judge)
        if not judged:
            for tower, label, tensors, pairs in reference.golden(graph, session):
                for name, output in bundle.manifest.towers[tower].outputs.items():
                    ours = _result(output, tensors)
                    judge.golden(compare.compare(output, ours, pairs.outputs[name][0]), f"{label} of tower {tower!r}")
        if cuda_graphs and driver.captures:
            with _session(bundle, graph, engine, driver, cuda_graphs=len(cases) * _SETS) as other:
                judge.figures |= replayed(spec, cases, session, other, _Judge(graph, spec, judged))
    return judge.figures


@contextmanager
def _session(
    bundle: Bundle, graph: str, engine: Engine, driver: Driver, *, cuda_graphs: int
) -> Iterator[StreamSession]:
    """Yield a lane's session, in the calling thread."""
    scratch = Scratch(driver, engine.scratch)

    def kernel(name: str, path: Path, stream: Stream) -> TensorRTExecutable:
        return TensorRTExecutable(engine, scratch)

    slot = StreamSlot(driver, SharedContext.of(driver), lambda: None, kernel, buffers=_SETS, cuda_graphs=cuda_graphs)
    with closing(slot), closing(cast(StreamSession, slot.open(graph, bundle.graph(graph)))) as session:
        yield session


def replayed(
    spec: Graph, cases: Sequence[CornerCase], plain: Session, capturing: StreamSession, judge: _Judge
) -> dict[str, float]:
    """Return the metrics of CUDA graphs against plain runs, with two contents in turn; none if they differ.

    Args:
        spec: The graph's manifest entry.
        cases: Inputs at the corners of the profiles.
        plain: Runs the graph without CUDA graphs.
        capturing: Runs it with them.
        judge: Collects the metrics.
    """
    try:
        for case in cases:
            _replay(spec, case, plain, capturing, judge)
    except Miss as miss:
        log.warning("%s; CUDA graphs are off for this plan", miss)
        return {}
    return judge.figures if capturing.captured else {}


def _replay(spec: Graph, case: CornerCase, plain: Session, capturing: StreamSession, judge: _Judge) -> None:
    rows = _rows(spec, case.inputs)
    places = [place % rows for place in range(max(rows, case.rows))]
    contents = [_take(spec, case.inputs, each) for each in (places, places[::-1])]
    wanted = [plain.start(content)() for content in contents]
    for turn in range(_TURNS):
        which = turn // _SETS % 2  # so that each staging buffer, which may have its own graph, sees both in turn
        found = capturing.start(contents[which])()
        for name, array in wanted[which].items():
            judge.replay(found[name], array, f"{case.label}, run {turn + 1}")


def _corner(spec: Graph, case: CornerCase, session: Session, judge: _Judge) -> None:
    """Run a case's rows as a full batch and one at a time, and compare both with the expected outputs."""
    rows = _rows(spec, case.inputs)
    full = session.start(_take(spec, case.inputs, [place % rows for place in range(max(rows, case.rows))]))()
    alone = [session.start(_take(spec, case.inputs, [place]))() for place in range(rows)]
    for output in spec.outputs:
        theirs = case.outputs[output.name]
        if not output.shape or not isinstance(output.shape[0], str):
            judge.parity(full[output.name], theirs, case.label)
            continue
        for place in range(len(full[output.name])):
            label = f"{case.label}, row {place} of {len(full[output.name])}"
            judge.parity(full[output.name][place], theirs[place % rows], label)
            judge.company(full[output.name][place], alone[place % rows][output.name][0], label)
        for place in range(rows):
            judge.parity(alone[place][output.name][0], theirs[place], f"{case.label}, a row alone")


def _rows(spec: Graph, inputs: Arrays) -> int:
    """Return the number of rows: the first axis of an input where that is dynamic; else 1."""
    return next((len(inputs[each.name]) for each in spec.inputs if each.shape and isinstance(each.shape[0], str)), 1)


def _take(spec: Graph, inputs: Arrays, places: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return these rows of the inputs."""
    batched = {each.name for each in spec.inputs if each.shape and isinstance(each.shape[0], str)}
    return {name: array[list(places)] if name in batched else array for name, array in inputs.items()}


def _result(output: Output, tensors: Arrays) -> NDArray[Any]:
    """Return one item's result in the form of golden pairs."""
    dim = len(output.labels) if isinstance(output, ScoresOutput) else output.dim
    collector = outputs.collector(output, 1, dim=dim, dtype="float32")
    collector.add(range(1), tensors)
    return compare.rows(collector.finish())[0]


class _Judge:
    """Keeps the worst value of each metric, and raises Miss as soon as one misses its threshold."""

    def __init__(self, graph: str, spec: Graph, judged: bool) -> None:
        """`judged`: the reference computed the expected outputs; else they are the plan's own."""
        # Sums of int8 are exact, but rounding to int8 may be one step off: as coarse as bfloat16.
        self._limits = Gate().at("bfloat16" if spec.precision == "int8" else spec.precision)
        self._graph, self._judged = graph, judged
        self.figures: dict[str, float] = {}

    def parity(self, ours: NDArray[Any], theirs: NDArray[Any], label: str) -> None:
        """Compare a row with the reference's; both of the output's shape without its first axis."""
        if self._judged:
            self._near("cosine_min", "max_abs", ours, theirs, f"is not what ONNX Runtime gives for {label}")

    def company(self, ours: NDArray[Any], alone: NDArray[Any], label: str) -> None:
        """Compare a row of a batch with the same row alone; both of the output's shape without its first axis."""
        self._near("batch_cosine", "batch_max_abs", ours, alone, f"depends on the other rows, for {label}")

    def replay(self, ours: NDArray[Any], plain: NDArray[Any], label: str) -> None:
        """Compare a CUDA graph's output with a plain run's; both of the output's shape."""
        self._near("captured_cosine", CAPTURED, ours, plain, f"is another one when it is replayed, for {label}")

    def golden(self, measures: dict[str, float], label: str) -> None:
        """Check an item's metrics against the original model."""
        for name, value in measures.items():
            limit = self._limits.threshold("cosine_min" if name == "cosine" else name, "")
            self._keep(f"golden_{name}", value, limit, f"is not what the original model gives for {label}")

    def _near(self, cosine: str, distance: str, ours: NDArray[Any], theirs: NDArray[Any], told: str) -> None:
        if ours.shape != theirs.shape:
            self._refuse(f"an output of the shape {theirs.shape} has {ours.shape}: it {told}")
        a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
        known = np.isfinite(b)
        if not np.isfinite(a[known]).all():
            self._refuse(f"an output is not finite: it {told}")
        a, b = a[known], b[known]
        if a.size:
            lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
            near = float(a @ b) / lengths if lengths > _TINY else float(np.abs(a - b).max() < _TINY)
            self._keep(cosine, near, self._limit(cosine), told)
            apart = float(np.abs(a - b).max() / max(np.linalg.norm(b), _TINY))
            self._keep(distance, apart, self._limit(distance), told)

    def _limit(self, name: str) -> float:
        """Return a metric's threshold; a replay may be as far off as a row in a batch."""
        return float(getattr(self._limits, name.replace("captured_", "batch_")))

    def _keep(self, name: str, value: float, limit: float, told: str) -> None:
        lower = name.endswith("max_abs")
        worst = max if lower else min
        self.figures[name] = worst(value, self.figures.get(name, value))
        if not (value <= limit if lower else value >= limit):
            self._refuse(f"{name} is {value:.6g}, the limit {limit:.6g}: an output {told}")

    def _refuse(self, text: str) -> None:
        raise Miss(f"the plan of graph {self._graph!r} is wrong on this device: {text}", self.figures)

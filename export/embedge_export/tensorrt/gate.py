"""The gate on the device: a plan is used here only if it gives, here, what the graph gives.

At the corners of every profile its outputs are held against ONNX Runtime's on the processor, and each row of a full
batch against the same row alone. TensorRT has been wrong in both, on some devices and versions and not on others.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge import outputs
from embedge.backends import Arrays, Session
from embedge.backends.streamed import StreamSlot
from embedge.backends.tensorrt.engine import Engine
from embedge.backends.tensorrt.kernel import Kernel, Scratch
from embedge.bundle import Bundle
from embedge.cuda import Context, Driver
from embedge.kinds import Output, ScoresOutput
from embedge.manifest import Graph
from embedge.verify import compare
from embedge_export.limits import Gate
from embedge_export.tensorrt.reference import Case, Reference

__all__ = ["Miss", "prove"]

_TINY = 1e-12


class Miss(Exception):
    """The plan's numbers are wrong here. The text says which figure missed which limit, and where."""

    def __init__(self, text: str, figures: dict[str, float]) -> None:
        super().__init__(text)
        self.figures = figures


def prove(bundle: Bundle, graph: str, engine: Engine, driver: Driver, reference: Reference) -> dict[str, float]:
    """Return the figures of a plan that passes. The calling thread has entered. Raises Miss, PlanError, CudaError."""
    scratch = Scratch(driver, engine.scratch)
    slot = StreamSlot(
        driver, Context.of(driver), lambda: None, lambda name, path, stream: Kernel(engine, scratch), captures=0
    )
    spec = bundle.manifest.graphs[graph]
    judged = reference.computes(graph)
    judge = _Judge(graph, spec, judged)
    with closing(slot), closing(slot.open(graph, bundle.graph(graph))) as session:
        for case in reference.cases(graph, None if judged else session):
            _corner(spec, case, session, judge)
        if not judged:
            for tower, label, tensors, pairs in reference.golden(graph, session):
                for name, output in bundle.manifest.towers[tower].outputs.items():
                    ours = _result(output, tensors)
                    judge.golden(compare.compare(output, ours, pairs.outputs[name][0]), f"{label} of tower {tower!r}")
    return judge.figures


def _corner(spec: Graph, case: Case, session: Session, judge: _Judge) -> None:
    """Run a case's rows as a full batch and one at a time, and hold both against what they have to be."""
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
    """Return how many rows there are: along the first axis of inputs where it is a symbol."""
    return next((len(inputs[each.name]) for each in spec.inputs if each.shape and isinstance(each.shape[0], str)), 1)


def _take(spec: Graph, inputs: Arrays, places: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return these rows of the inputs."""
    batched = {each.name for each in spec.inputs if each.shape and isinstance(each.shape[0], str)}
    return {name: array[list(places)] if name in batched else array for name, array in inputs.items()}


def _result(output: Output, tensors: Arrays) -> NDArray[Any]:
    """Return one item's result, as golden pairs have it."""
    dim = len(output.labels) if isinstance(output, ScoresOutput) else output.dim
    collector = outputs.collector(output, 1, dim=dim, dtype="float32")
    collector.add(range(1), tensors)
    return compare.rows(collector.finish())[0]


class _Judge:
    """Keeps the worst of each figure, and refuses as soon as one misses its limit."""

    def __init__(self, graph: str, spec: Graph, judged: bool) -> None:
        """`judged`: there is a reference; else what it would give is what the plan itself gave."""
        # Sums of int8 are exact, but what is rounded to it may come out one step off: as coarse as bfloat16.
        self._limits = Gate().at("bfloat16" if spec.precision == "int8" else spec.precision)
        self._graph, self._judged = graph, judged
        self.figures: dict[str, float] = {}

    def parity(self, ours: NDArray[Any], theirs: NDArray[Any], label: str) -> None:
        """Hold a row against the reference's."""
        if self._judged:
            self._near("cosine_min", "max_abs", ours, theirs, f"is not what ONNX Runtime gives for {label}")

    def company(self, ours: NDArray[Any], alone: NDArray[Any], label: str) -> None:
        """Hold a row of a batch against the same row alone."""
        self._near("batch_cosine", "batch_max_abs", ours, alone, f"depends on the other rows, for {label}")

    def golden(self, measures: dict[str, float], label: str) -> None:
        """Hold an item's result against the original model's."""
        for name, value in measures.items():
            limit = self._limits.limit("cosine_min" if name == "cosine" else name, "")
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
            self._keep(cosine, near, getattr(self._limits, cosine), told)
            apart = float(np.abs(a - b).max() / max(np.linalg.norm(b), _TINY))
            self._keep(distance, apart, getattr(self._limits, distance), told)

    def _keep(self, name: str, value: float, limit: float, told: str) -> None:
        lower = name.endswith("max_abs")
        worst = max if lower else min
        self.figures[name] = worst(value, self.figures.get(name, value))
        if not (value <= limit if lower else value >= limit):
            self._refuse(f"{name} is {value:.6g}, the limit {limit:.6g}: an output {told}")

    def _refuse(self, text: str) -> None:
        raise Miss(f"the plan of graph {self._graph!r} is wrong on this device: {text}", self.figures)

"""Writes the graph files of a bundle, each once, in the order of the towers' steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from embedge import backends
from embedge.bundle import sha256
from embedge.bundle.manifest import Graph, TensorSpec
from embedge.config import RuntimeConfig
from embedge_export.errors import ExportError
from embedge_export.graph_inputs import BATCH, inputs_of
from embedge_export.model import GraphInput, GraphSource, GraphStep, SourceModel, TowerSource
from embedge_export.onnx_graph import files as onnx_graph
from embedge_export.onnx_graph.precision import lower
from embedge_export.thresholds import Precision

__all__ = ["GRAPH", "Graphs"]

GRAPH = "model.onnx"
ONLY_GRAPH = "encoder"

_GraphInputs = dict[str, GraphInput]


class Graphs:
    """Writes graphs into a staged bundle.

    Attributes:
        records: All graphs by name, those of the bundle to extend (`there`) first.
    """

    def __init__(self, staged: Path, *, opset: int, precision: Precision, there: Mapping[str, Graph]) -> None:
        self.records = dict(there)
        self._staged, self._opset, self._precision = staged, opset, precision
        self._names: dict[int, str] = {}

    def write(self, model: SourceModel) -> dict[str, tuple[str, ...]]:
        """Write each graph of the towers once. Return each tower's graph names. Raises ExportError."""
        every = {id(source) for tower in model.towers.values() for source in _sources(tower)}
        only = len(every) == 1 and not self.records
        steps = {name: self._tower(name, tower, only=only) for name, tower in model.towers.items()}
        self._lower()
        return steps

    def _lower(self) -> None:
        """Lower the precision of the written graphs, after all steps have run on their float32 results."""
        for name in self._names.values():
            file = self._staged / self.records[name].file
            precision = lower(file, self._precision)
            self.records[name] = replace(self.records[name], precision=precision, sha256=sha256(file))
        written = {self.records[name].precision for name in self._names.values()}
        if written and self._precision not in written:
            raise ExportError(f"no graph has a matrix product to run in {self._precision}; export as float32")

    def _tower(self, name: str, tower: TowerSource, *, only: bool) -> tuple[str, ...]:
        prepared = {each.name: each for each in inputs_of(tower.parts, tower.examples)}
        if tower.graph is not None:
            own = self._names.get(id(tower.graph), ONLY_GRAPH if only else name)
            self._write(own, tower.graph, list(prepared.values()), tower=name)
            return (own,)
        if tower.chain is not None:
            start, *modules = tower.modules
            self._write(start.name, start.graph, [], tower=name)
            state = self._made(start.name, [])[tower.chain.gives]
            example = np.repeat(state.example, BATCH, axis=0)
            first = GraphInput(tower.chain.takes, ("batch", *state.shape[1:]), example)
            for step, part in zip(modules, tower.chain.modules, strict=True):
                taken = {key: prepared[key] for key in tower.parts[part].fills()}
                self._step(step, {**taken, first.name: first}, name)
            prepared = {first.name: first}
        for step in tower.steps:
            prepared |= self._step(step, prepared, name)
        return tuple(step.name for step in tower.steps)

    def _step(self, step: GraphStep, there: _GraphInputs, tower: str) -> _GraphInputs:
        """Write a step for its available inputs; return its outputs as inputs of later steps."""
        inputs = [_reshaped(there[key], step) for key in step.takes if key in there]
        self._write(step.name, step.graph, inputs, tower=tower)
        return self._made(step.name, inputs)

    def _write(self, name: str, source: GraphSource | None, inputs: Sequence[GraphInput], *, tower: str) -> None:
        if source is not None and id(source) not in self._names:
            if name in self.records:
                raise ExportError(f"two graphs have the name {name!r}; rename a step or a tower")
            file = self._staged / (GRAPH if name == ONLY_GRAPH else f"{name}.onnx")
            source.write(file, inputs, opset=self._opset)
            self._names[id(source)] = name
            self.records[name] = onnx_graph.describe(file, inputs)
            return
        own = name if source is None else self._names[id(source)]
        if own != name:
            raise ExportError(f"the steps {own!r} and {name!r} are the same; name one of them in both places")
        shapes = {spec.name: spec.shape for spec in self.records[name].inputs}
        if unlike := [each for each in inputs if not _fits(each, shapes.get(each.name))]:
            shape = f"{unlike[0].name!r} of {', '.join(map(str, unlike[0].shape))}"
            raise ExportError(
                f"tower {tower!r} shares the graph {name!r}, but makes {shape} for it; if a size may vary, name it in "
                "the step's takes"
            )
        if len(inputs) != len(shapes):
            raise ExportError(f"tower {tower!r} shares the graph {name!r}, but makes other inputs for it")

    def _made(self, name: str, inputs: Sequence[GraphInput]) -> _GraphInputs:
        """Run a written graph on the examples; return its outputs as inputs of later steps."""
        backend, _ = backends.choose(RuntimeConfig(backend="onnxruntime"))
        slot = backend.slot(threads=1, wake=lambda: None)
        session = slot.open(name, self._staged / self.records[name].file)
        try:
            made = session.start({each.name: each.example for each in inputs})()
        finally:
            session.close()
            slot.close()
            backend.close()
        longest = {symbol: most for each in inputs for symbol, most in each.longest.items()}
        return {spec.name: _input(spec, np.asarray(made[spec.name]), longest) for spec in self.records[name].outputs}


def _input(spec: TensorSpec, example: NDArray[np.generic], longest: Mapping[str, int]) -> GraphInput:
    """Return a tensor as an input; a computed size, such as `length + 1`, becomes a new symbol."""
    axes = tuple(
        size if isinstance(size, int) or size.isidentifier() else f"{spec.name}_{place}"
        for place, size in enumerate(spec.shape)
    )
    return GraphInput(spec.name, axes, example, {axis: most for axis, most in longest.items() if axis in axes})


def _reshaped(given: GraphInput, step: GraphStep) -> GraphInput:
    """Return an input with the shape from the step's `takes`, if set. Raises ExportError."""
    shape = step.shapes.get(given.name)
    if shape is None:
        return given
    if not _fits(given, shape):
        raise ExportError(f"step {step.name!r} takes {given.name!r} of shape {shape}, but gets {given.shape}")
    return GraphInput(given.name, shape, given.example)


def _fits(given: GraphInput, shape: Sequence[int | str] | None) -> bool:
    """Return whether an input matches `shape`; names match any size."""
    sizes = given.example.shape
    return (
        shape is not None
        and len(shape) == len(sizes)
        and all(isinstance(wanted, str) or wanted == size for wanted, size in zip(shape, sizes, strict=True))
    )


def _sources(tower: TowerSource) -> Iterable[GraphSource]:
    if tower.graph is not None:
        yield tower.graph
    yield from (step.graph for step in (*tower.modules, *tower.steps) if step.graph is not None)

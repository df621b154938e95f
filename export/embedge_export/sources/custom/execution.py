"""The way through the graphs of a tower of one's own: one module, several steps, or a chain before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge.bundle import Bundle
from embedge.bundle.manifest import Chain
from embedge_export.errors import ExportError
from embedge_export.model import GraphStep
from embedge_export.recipe import Recipe, StepRecipe, TowerRecipe
from embedge_export.sources.custom.runnables import NamedArrays, Runnable, open_module, open_onnx

__all__ = ["ExecutionPath", "Ways"]


@dataclass(frozen=True, eq=False)
class ExecutionPath:
    """What a tower runs, by name: the modules of its chain, then its steps in order. Called on one item, unpadded.

    whole: there is one step, which takes all that the parts make.
    """

    steps: Mapping[str, Runnable]
    chain: Chain | None = None
    modules: Mapping[str, Runnable] = field(default_factory=dict)
    whole: bool = False

    @property
    def all(self) -> Sequence[Runnable]:
        """Everything that it runs."""
        return (*self.modules.values(), *self.steps.values())

    @property
    def definition(self) -> Mapping[str, Any]:
        """What it computes, as JSON values: that of its only step, or of all in order."""
        if self.chain is None and len(self.steps) == 1:
            return next(iter(self.steps.values())).definition
        return {"steps": [each.definition for each in self.all]}

    def sources(self, names: Sequence[str], said: Mapping[str, StepRecipe]) -> tuple[GraphStep, ...]:
        """Return the graphs of these names. said: what the recipe says of those that are not the bundle's already."""
        found = {**self.modules, **self.steps}
        return tuple(
            GraphStep(name, found[name].graph, found[name].takes, said[name].takes)
            if name in said
            else GraphStep(name, None, found[name].takes)
            for name in names
        )

    def run(self, feeds: NamedArrays) -> NamedArrays:
        """Return all tensors that the steps make of one item's inputs, and what the chain keeps of each of them."""
        if self.chain is None:
            return self._follow(feeds)
        each = [self._follow({self.chain.takes: state}) for state in self._states(self.chain, feeds)]
        trail = {name: np.stack([found[made] for found in each], axis=1) for name, made in self.chain.trail.items()}
        return {**each[-1], **trail, self.chain.keep: np.ones((1, len(each)), np.bool_)}

    def _follow(self, values: NamedArrays) -> NamedArrays:
        for step in self.steps.values():
            values = {**values, **step.run(values if self.whole else _taken(step, values))}
        return values

    def _states(self, chain: Chain, feeds: NamedArrays) -> Iterator[Any]:
        """Yield the state after each module, in the item's order."""
        state = self.modules[str(chain.start)].run({})[chain.gives]
        names = [*chain.modules.values()]
        for number in feeds[chain.order][0]:
            if number >= 0:
                module = self.modules[names[int(number)]]
                values = {**feeds, chain.takes: state}
                state = module.run(_taken(module, values))[chain.gives]
                yield state


class Ways:
    """Opens what the towers of a recipe run, each module and file once."""

    def __init__(self, recipe: Recipe, there: Bundle | None) -> None:
        """`there`: the bundle that is extended; its graphs may be steps."""
        self._recipe, self._there = recipe, there
        self._opened: dict[bytes, Runnable] = {}

    def of(self, name: str, said: TowerRecipe) -> ExecutionPath:
        """Return the way of a tower. Raises ExportError."""
        if said.module or said.onnx:
            unit = {
                output.tensors[0]
                for output in said.outputs.values()
                if said.normalize and output.kind in ("dense", "multi_vector")
            }
            step = StepRecipe(
                module=said.module,
                arguments=said.arguments,
                weights=said.weights,
                onnx=said.onnx,
                gives=said.tensors,
            )
            return ExecutionPath({name: self._open(step, sorted(unit))}, whole=True)
        chain = said.chain
        modules = [] if chain is None else [str(chain.start), *chain.modules.values()]
        return ExecutionPath(
            {step: self._named(step) for step in said.steps}, chain, {key: self._named(key) for key in modules}
        )

    def _named(self, name: str) -> Runnable:
        graphs = {} if self._there is None else self._there.manifest.graphs
        if self._there is not None and name in graphs and name not in self._recipe.step:
            return open_onnx(self._there.graph(name))
        if name not in self._recipe.step:
            known = ", ".join((*self._recipe.step, *graphs)) or "none"
            raise ExportError(f"a tower names the step {name!r}; there are: {known}")
        return self._open(self._recipe.step[name], [])

    def _open(self, said: StepRecipe, unit: Sequence[str]) -> Runnable:
        folder = self._recipe.folder
        key = msgspec.json.encode([said, unit])
        if key not in self._opened:
            opened = (
                open_module(said, folder, unit) if said.module else open_onnx(Path(folder, str(said.onnx)), said.gives)
            )
            self._opened[key] = opened
        return self._opened[key]


def _taken(step: Runnable, values: NamedArrays) -> NamedArrays:
    return {name: values[name] for name in step.takes if name in values}

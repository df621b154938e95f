"""Execution paths of custom towers: one module, several steps, or a chain followed by steps."""

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
from embedge_export.sources.custom.reference_modules import NamedArrays, ReferenceModule, open_module, open_onnx

__all__ = ["ExecutionPath", "ExecutionPaths"]


@dataclass(frozen=True, eq=False)
class ExecutionPath:
    """Everything a tower runs on one unpadded item: the modules of its chain, then its steps in order.

    Attributes:
        steps: The steps by name.
        chain: As in the manifest.
        modules: The chain's modules by name, its start included.
        whole: True for a single step that takes all inputs.
    """

    steps: Mapping[str, ReferenceModule]
    chain: Chain | None = None
    modules: Mapping[str, ReferenceModule] = field(default_factory=dict)
    whole: bool = False

    @property
    def all(self) -> Sequence[ReferenceModule]:
        """The chain's modules and the steps."""
        return (*self.modules.values(), *self.steps.values())

    @property
    def definition(self) -> Mapping[str, Any]:
        """The computation as JSON values: that of the only step, or of all in order."""
        if self.chain is None and len(self.steps) == 1:
            return next(iter(self.steps.values())).definition
        return {"steps": [each.definition for each in self.all]}

    def sources(self, names: Sequence[str], specs: Mapping[str, StepRecipe]) -> tuple[GraphStep, ...]:
        """Return the graphs of these names. `specs` holds the recipe's tables; other names are the old bundle's."""
        found = {**self.modules, **self.steps}
        return tuple(
            GraphStep(name, found[name].graph, found[name].takes, specs[name].takes)
            if name in specs
            else GraphStep(name, None, found[name].takes)
            for name in names
        )

    def run(self, feeds: NamedArrays) -> NamedArrays:
        """Return all tensors of the steps for one item (batch size 1), and the states that the chain keeps."""
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


class ExecutionPaths:
    """Opens the modules and files of a recipe's towers, each once."""

    def __init__(self, recipe: Recipe, old: Bundle | None) -> None:
        """Use the graphs of `old`, the bundle to extend, as steps too."""
        self._recipe, self._old = recipe, old
        self._opened: dict[bytes, ReferenceModule] = {}

    def of(self, name: str, spec: TowerRecipe) -> ExecutionPath:
        """Return the execution path of a tower. Raises ExportError."""
        if spec.module or spec.onnx:
            unit = {
                output.tensors[0]
                for output in spec.outputs.values()
                if spec.normalize and output.kind in ("dense", "multi_vector")
            }
            step = StepRecipe(
                module=spec.module,
                arguments=spec.arguments,
                weights=spec.weights,
                onnx=spec.onnx,
                gives=spec.tensors,
            )
            return ExecutionPath({name: self._open(step, sorted(unit))}, whole=True)
        chain = spec.chain
        modules = [] if chain is None else [str(chain.start), *chain.modules.values()]
        return ExecutionPath(
            {step: self._named(step) for step in spec.steps}, chain, {key: self._named(key) for key in modules}
        )

    def _named(self, name: str) -> ReferenceModule:
        graphs = {} if self._old is None else self._old.manifest.graphs
        if self._old is not None and name in graphs and name not in self._recipe.step:
            return open_onnx(self._old.graph(name))
        if name not in self._recipe.step:
            known = ", ".join((*self._recipe.step, *graphs)) or "none"
            raise ExportError(f"a tower names the step {name!r}; the steps are: {known}")
        return self._open(self._recipe.step[name], [])

    def _open(self, spec: StepRecipe, unit: Sequence[str]) -> ReferenceModule:
        folder = self._recipe.folder
        key = msgspec.json.encode([spec, unit])
        if key not in self._opened:
            opened = (
                open_module(spec, folder, unit) if spec.module else open_onnx(Path(folder, str(spec.onnx)), spec.gives)
            )
            self._opened[key] = opened
        return self._opened[key]


def _taken(step: ReferenceModule, values: NamedArrays) -> NamedArrays:
    return {name: values[name] for name in step.takes if name in values}

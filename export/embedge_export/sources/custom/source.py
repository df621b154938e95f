"""Custom towers of a recipe, alone or beside the towers of its source. They may share the source's spaces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from embedge.arrays import Array
from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput, Output
from embedge.bundle.part_specs import TextPrepare
from embedge_export.errors import ExportError
from embedge_export.extend import BaseBundle
from embedge_export.graph_inputs import inputs_of
from embedge_export.model import SourceModel, TowerSource
from embedge_export.recipe import Recipe, TowerRecipe
from embedge_export.samples.files import samples_of
from embedge_export.sources.custom.execution import ExecutionPath, ExecutionPaths
from embedge_export.sources.custom.originals import beside, original_of
from embedge_export.sources.custom.sets import with_sets
from embedge_export.sources.custom.spaces import spaces_of

__all__ = ["load"]


def load(recipe: Recipe, source: SourceModel | None = None, old: BaseBundle | None = None) -> SourceModel:
    """Load the recipe's custom towers.

    Args:
        recipe: Describes the towers.
        source: The recipe's source, whose towers the result keeps.
        old: The bundle to extend; towers may use its graphs as steps, and its spaces.

    Raises:
        ExportError: A module, a file or a table of the recipe cannot be used.
    """
    base = source or SourceModel(kind="custom", towers={})
    specs = {name: recipe.of(name) for name, tower in recipe.tower.items() if tower.custom}
    opened = ExecutionPaths(recipe, old.bundle if old else None)
    paths = {name: opened.of(name, spec) for name, spec in specs.items()}
    towers = dict(base.towers)
    for name, spec in specs.items():
        towers[name] = _tower(name, spec, paths[name], recipe, towers)
    used = [each for path in paths.values() for each in path.all]
    return replace(
        base,
        towers=towers,
        spaces={**spaces_of(specs, paths, recipe), **base.spaces, **(old.spaces() if old else {})},
        files={**base.files, **_tokenizers(specs, recipe)},
        hashes={**base.hashes, **{key: value for each in used for key, value in each.hashes.items()}},
        tools={**base.tools, **{key: value for each in used for key, value in each.tools.items()}},
    )


def _tower(
    name: str, spec: TowerRecipe, path: ExecutionPath, recipe: Recipe, towers: Mapping[str, TowerSource]
) -> TowerSource:
    """Return a tower. `towers` is complete once its original runs; pieces of sets need that."""
    parts = {key: _part(part, spec) for key, part in spec.parts.items()}
    examples = _examples(parts, path, spec)
    chain = spec.chain
    whole = bool(spec.module or spec.onnx)
    return TowerSource(
        parts=parts,
        graph=path.steps[name].graph if whole else None,
        steps=() if whole else path.sources(spec.steps, recipe.step),
        chain=chain,
        modules=() if chain is None else path.sources([str(chain.start), *chain.modules.values()], recipe.step),
        outputs={key: _output(output, spec) for key, output in spec.outputs.items()},
        original=with_sets(original_of(spec, parts, path, examples, recipe.folder), parts, towers),
        examples=examples,
        samples=samples_of(spec.samples, parts, recipe.folder) if spec.samples else None,
        buckets=spec.buckets,
    )


def _part(part: Part, spec: TowerRecipe) -> Part:
    """Return a part with the tower's options for text."""
    if not isinstance(part.prepare, TextPrepare):
        return part
    names = ("max_length", "prompts", "default_prompt", "instruction")
    changes = {name: getattr(spec, name) for name in names if getattr(spec, name) is not None}
    return msgspec.structs.replace(part, prepare=msgspec.structs.replace(part.prepare, **changes))


def _output(output: Output, spec: TowerRecipe) -> Output:
    """Return an output with the tower's options for vectors."""
    if not isinstance(output, (DenseOutput, MultiVectorOutput)):
        return output
    dims = output.dims or tuple(sorted(spec.dims or ()))
    return msgspec.structs.replace(output, dims=dims, normalized=output.normalized or bool(spec.normalize))


def _examples(parts: Mapping[str, Part], path: ExecutionPath, spec: TowerRecipe) -> dict[str, Array]:
    """Return an example of each input, in the requested dtype. Raises ExportError."""
    names = [each.name for each in inputs_of(parts)]
    if unknown := [name for name in spec.dtypes if name not in names]:
        raise ExportError(f"dtypes names the input {unknown[0]!r}; the parts make: {', '.join(names)}")
    taken = {name for each in path.all for name in each.takes} | set(spec.tensors)
    if spec.steps and (unread := [name for name in names if name not in taken]):
        raise ExportError(f"no step takes {unread[0]!r}, which a part makes; they take: {', '.join(sorted(taken))}")
    dtypes = {**{name: dtype for each in path.all for name, dtype in each.dtypes.items()}, **spec.dtypes}
    return {each.name: each.example.astype(dtypes.get(each.name, each.example.dtype)) for each in inputs_of(parts)}


def _tokenizers(specs: Mapping[str, TowerRecipe], recipe: Recipe) -> dict[str, bytes]:
    names = {
        part.prepare.tokenizer
        for spec in specs.values()
        for part in spec.parts.values()
        if isinstance(part.prepare, TextPrepare)
    }
    return {name: beside(recipe.folder, name).read_bytes() for name in sorted(names)}

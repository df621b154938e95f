"""Towers of one's own: described in a recipe's tables, made of torch modules or ONNX files.

They stand alone, or beside the towers of the recipe's source, and then may share its spaces.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge.arrays import Array
from embedge.batches.batch import Layout, pad
from embedge.bundle.manifest import Buckets, Chain, Part, Tower
from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
)
from embedge.bundle.part_specs import Fill, TextPrepare
from embedge.config import RuntimeConfig
from embedge.errors import EmbedgeError
from embedge.inputs.items import ItemInput
from embedge.request import Request
from embedge_export.errors import ExportError
from embedge_export.extend import BaseBundle
from embedge_export.graph_inputs import inputs_of
from embedge_export.model import Original, SampleItem, SourceModel, SpaceSource, TowerSource
from embedge_export.recipe import Recipe, SpaceMetric, SpaceRecipe, TowerRecipe
from embedge_export.samples.files import samples_of
from embedge_export.sources.custom.execution import ExecutionPath, Ways
from embedge_export.sources.custom.sets import gathering
from embedge_export.sources.pooling import normalize
from embedge_export.user_code import resolve

__all__ = ["load"]

_METRICS: dict[str, SpaceMetric] = {
    "multi_vector": "max_sim",
    "sparse": "sparse_dot",
    "gaussian": "likelihood",
    "codes": "hamming",
}


def load(recipe: Recipe, source: SourceModel | None = None, old: BaseBundle | None = None) -> SourceModel:
    """Return the recipe's own towers, beside those of `source` if there is one. Raises ExportError.

    old: the bundle that they extend; their steps and spaces may be its.
    """
    base = source or SourceModel(kind="own", towers={})
    said = {name: recipe.of(name) for name, tower in recipe.tower.items() if tower.own}
    ways = Ways(recipe, old.bundle if old else None)
    runs = {name: ways.of(name, tower) for name, tower in said.items()}
    towers = dict(base.towers)
    for name, tower in said.items():
        towers[name] = _tower(name, tower, runs[name], recipe, towers)
    opened = [run for way in runs.values() for run in way.all]
    return replace(
        base,
        towers=towers,
        spaces={**_spaces(said, runs, recipe), **base.spaces, **(old.spaces() if old else {})},
        files={**base.files, **_tokenizers(said, recipe)},
        hashes={**base.hashes, **{key: value for run in opened for key, value in run.hashes.items()}},
        tools={**base.tools, **{key: value for run in opened for key, value in run.tools.items()}},
    )


def _tower(
    name: str, said: TowerRecipe, way: ExecutionPath, recipe: Recipe, towers: Mapping[str, TowerSource]
) -> TowerSource:
    """Return a tower. towers: all of them, some of them only later; pieces of sets are theirs."""
    outputs = {key: _output(output, said) for key, output in said.outputs.items()}
    parts = {key: _part(part, said) for key, part in said.parts.items()}
    examples = _examples(parts, way, said)
    chain = said.chain
    named = bool(said.module or said.onnx)
    return TowerSource(
        parts=parts,
        graph=way.steps[name].graph if named else None,
        steps=() if named else way.sources(said.steps, recipe.step),
        chain=chain,
        modules=() if chain is None else way.sources([str(chain.start), *chain.modules.values()], recipe.step),
        outputs=outputs,
        original=gathering(_original(said, parts, way, examples, recipe.folder), parts, towers),
        examples=examples,
        samples=samples_of(said.samples, parts, recipe.folder) if said.samples else None,
        buckets=said.buckets,
    )


def _part(part: Part, said: TowerRecipe) -> Part:
    """Return a part, with what the recipe says of texts elsewhere."""
    if not isinstance(part.prepare, TextPrepare):
        return part
    names = ("max_length", "prompts", "default_prompt", "instruction")
    changes = {name: getattr(said, name) for name in names if getattr(said, name) is not None}
    return msgspec.structs.replace(part, prepare=msgspec.structs.replace(part.prepare, **changes))


def _output(output: Output, said: TowerRecipe) -> Output:
    """Return an output, with what the recipe says of vectors elsewhere."""
    if not isinstance(output, (DenseOutput, MultiVectorOutput)):
        return output
    dims = output.dims or tuple(sorted(said.dims or ()))
    return msgspec.structs.replace(output, dims=dims, normalized=output.normalized or bool(said.normalize))


def _examples(parts: Mapping[str, Part], way: ExecutionPath, said: TowerRecipe) -> dict[str, Array]:
    """Return an example of each input, of the dtype that is asked for. Raises ExportError."""
    names = [each.name for each in inputs_of(parts)]
    if unknown := [name for name in said.dtypes if name not in names]:
        raise ExportError(f"there is no input {unknown[0]!r}; the parts make: {', '.join(names)}")
    taken = {name for run in way.all for name in run.takes} | set(said.tensors)
    if said.steps and (unread := [name for name in names if name not in taken]):
        raise ExportError(f"no step takes {unread[0]!r}, which a part makes; they take: {', '.join(sorted(taken))}")
    dtypes = {**{name: dtype for run in way.all for name, dtype in run.dtypes.items()}, **said.dtypes}
    return {each.name: each.example.astype(dtypes.get(each.name, each.example.dtype)) for each in inputs_of(parts)}


def _spaces(
    said: Mapping[str, TowerRecipe], runs: Mapping[str, ExecutionPath], recipe: Recipe
) -> dict[str, SpaceSource]:
    """Return the spaces that outputs name. Each is defined by every tower that has an output in it."""
    members: dict[str, list[tuple[Mapping[str, Any], Output]]] = {}
    for name, tower in said.items():
        for output in tower.outputs.values():
            if not isinstance(output, ScoresOutput):
                members.setdefault(output.space, []).append((runs[name].definition, output))
    return {name: _space(outputs, recipe.space.get(name, SpaceRecipe())) for name, outputs in members.items()}


def _space(outputs: Sequence[tuple[Mapping[str, Any], Any]], said: SpaceRecipe) -> SpaceSource:
    """Return the space of outputs, each beside the definition of what makes it; names of towers are no part of it."""
    facts = sorted(json.dumps([definition, output.tensors], sort_keys=True) for definition, output in outputs)
    first = outputs[0][1]
    return SpaceSource(
        definition={"outputs": facts},
        dim=first.dim,
        metric=said.metric or _METRICS.get(first.kind, "cosine"),
        scale=said.scale,
        bias=said.bias,
        lineage=said.lineage,
    )


def _tokenizers(said: Mapping[str, TowerRecipe], recipe: Recipe) -> dict[str, bytes]:
    names = {
        part.prepare.tokenizer
        for tower in said.values()
        for part in tower.parts.values()
        if isinstance(part.prepare, TextPrepare)
    }
    return {name: _beside(recipe.folder, name).read_bytes() for name in sorted(names)}


def _beside(folder: str, name: str) -> Path:
    """Return the path of a file in the recipe's directory. Raises ExportError if it is missing or unreadable."""
    path = Path(folder, name)
    if Path(name).name != name:
        raise ExportError(f"{name}: name a file in the recipe's directory, not a path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read: {error.strerror}; put it beside the recipe") from error
    return path


def _original(
    said: TowerRecipe, parts: Mapping[str, Part], way: ExecutionPath, examples: Mapping[str, Array], folder: str
) -> Original:
    """Return the recipe's own original, or the modules on one item, prepared by the recipe's function or as a part."""
    if said.original:
        return resolve(said.original, folder)
    prepared = resolve(said.preprocess, folder) if said.preprocess else _Prepared(parts, said.chain, examples, folder)

    def original(item: SampleItem) -> dict[str, Array]:
        feeds = {key: np.asarray(array)[None] for key, array in prepared(item).items()}
        tensors = {**feeds, **way.run(feeds)}
        return {key: _row(output, tensors, said) for key, output in said.outputs.items()}

    return original


def _row(output: Output, tensors: Mapping[str, Array], said: TowerRecipe) -> Array:
    """Return the result of a batch of one as an original gives it."""
    first: Array = tensors[output.tensors[0]][0]
    if isinstance(output, GaussianOutput):
        return np.stack([first, tensors[output.log_variance][0]])
    if isinstance(output, CodesOutput) and output.form == "bits":
        first = (first > 0).astype(np.uint8)
    if isinstance(output, (MultiVectorOutput, CodesOutput)) and output.keep is not None:
        first = first[tensors[output.keep][0] != 0]
    if said.normalize and output.kind in ("dense", "multi_vector"):
        return normalize(np.atleast_2d(first)).reshape(first.shape)
    return first


class _Prepared:
    """One item's graph inputs, without a batch, as the runtime prepares it: its own row, nothing padded."""

    def __init__(
        self, parts: Mapping[str, Part], chain: Chain | None, examples: Mapping[str, Array], folder: str
    ) -> None:
        tower = Tower(parts=dict(parts), steps=(), outputs={}, buckets=Buckets(lengths=(1,)), chain=chain)
        self._only = next(iter(parts)) if len(parts) == 1 else None
        self._inputs = ItemInput(tower, partial(_beside, folder), RuntimeConfig(), name="tower")
        fills = {key: fill for part in parts.values() for key, fill in part.fills().items()}
        dtypes = {key: str(example.dtype) for key, example in examples.items()}
        order = {} if chain is None else {chain.order: Fill()}
        self._layout = Layout({**dtypes, **dict.fromkeys(order, "int64")}, {**fills, **order})

    def __call__(self, item: SampleItem) -> dict[str, Array]:
        content: Any = item if self._only is None else {self._only: item}
        (row,) = self._inputs.prepare([content], Request(items=(content,), truncate=True))
        if isinstance(row, EmbedgeError):
            raise row
        return {key: array[0] for key, array in pad([row], self._layout).items()}

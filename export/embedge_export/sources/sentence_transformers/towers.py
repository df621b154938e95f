"""Towers of sentence-transformers text models: one for each route, in one space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput, Output, SparseOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.content import Text
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel, SpaceSource, TowerSource
from embedge_export.quiet import quiet
from embedge_export.recipe import Recipe, SpaceMetric
from embedge_export.sources import text, weights
from embedge_export.sources import tokenizer as tokenizers
from embedge_export.sources.sentence_transformers.heads import fused_of, keep_of, normalizes
from embedge_export.sources.sentence_transformers.routes import Route, routes_of
from embedge_export.sources.torch.fused import Fused
from embedge_export.sources.torch.graph import TorchGraph, tools

__all__ = ["model_of"]

_KEYS = {"SentenceTransformer": "dense", "SparseEncoder": "sparse", "MultiVectorEncoder": "tokens"}
# By output, or else by the model's similarity function.
_METRICS: Mapping[str, SpaceMetric] = {
    "sparse": "sparse_dot",
    "tokens": "max_sim",
    "dot": "dot",
    "euclidean": "euclidean",
}
_SPACE = "text"


class _OpenedDirectory(NamedTuple):
    """An opened model, its recipe and its directory."""

    model: Any
    recipe: Recipe
    path: Path

    @property
    def key(self) -> str:
        """The name of the towers' output."""
        return _KEYS[type(self.model).__name__]


class _SharedGraph(NamedTuple):
    """A graph shared by routes: its inputs by role, its module, and the size of its vectors."""

    inputs: dict[Any, str]
    module: Fused
    source: TorchGraph
    dim: int


def model_of(model: Any, path: Path, recipe: Recipe) -> SourceModel:
    """Return the source model of an opened sentence-transformers model. Raises ExportError."""
    opened = _OpenedDirectory(model, recipe, path)
    if opened.key == "sparse" and recipe.normalize:
        raise ExportError(f"{path}: sparse weights cannot be normalized; remove normalize from the recipe")
    routes = routes_of(model, path)
    words = {route.name: route.tokenizer(path) for route in routes}
    files: dict[str, str] = {}  # by content: routes of one tokenizer share its file
    for name, content in words.items():
        files.setdefault(content, f"{name}-{text.TOKENIZER}" if files else text.TOKENIZER)
    graphs = _graphs(routes, words, opened)
    towers = {
        route.name: _tower(route, graphs[route.name], words[route.name], files[words[route.name]], opened)
        for route in routes
    }
    return SourceModel(
        kind="sentence_transformers",
        towers=towers,
        spaces={_SPACE: _space(routes, graphs, opened)},
        files={name: content.encode() for content, name in files.items()},
        hashes=weights.file_hashes(path),
        tools=tools("sentence-transformers", "transformers", "torch", "onnxscript"),
    )


def _graphs(routes: Sequence[Route], words: Mapping[str, str], opened: _OpenedDirectory) -> dict[str, _SharedGraph]:
    """Return the graph of each route; routes with the same modules and tokens share one."""
    groups: dict[Any, list[Route]] = {}
    for route in routes:
        attended = bool(route.expansion and route.expansion["attend"])
        groups.setdefault((tuple(map(id, route.modules)), attended), []).append(route)
    found: dict[str, _SharedGraph] = {}
    for (_, attended), group in groups.items():
        inputs, module, names = fused_of(group, words[group[0].name], *opened)
        if attended:  # every position is a token: no mask
            del inputs["mask"]
        made = _SharedGraph(inputs, module, TorchGraph(module, names), _width(module))
        found |= {route.name: made for route in group}
    return found


def _width(module: Fused) -> int:
    with torch.no_grad(), quiet():
        return int(module(torch.zeros((1, 2), dtype=torch.long))[0].shape[-1])


def _tower(route: Route, graph: _SharedGraph, words: str, file: str, opened: _OpenedDirectory) -> TowerSource:
    model, recipe, path = opened
    limit = route.limit(recipe.of(route.name).max_length, path)
    table = 0 if route.static else getattr(route.first.auto_model.config, "vocab_size", 0)
    tokenizers.check(words, path, max_length=limit, table=table)
    prompts, default = route.prompts(model, recipe)
    if prompts and not all(getattr(module, "include_prompt", True) for module in route.modules):
        raise ExportError(f"{path}: pooling without the prompt (include_prompt) is not supported")
    prepare = text.text_prepare(
        max_length=limit,
        pad_id=route.pad_id(),
        inputs=graph.inputs,
        prompts=prompts,
        default_prompt=default,
        instruction=recipe.of(route.name).instruction,
        tokenizer=file,
        fixed_length=route.expansion is not None,
    )
    return TowerSource(
        parts={"text": Part(prepare=prepare)},
        graph=graph.source,
        outputs={opened.key: _output(route, graph, opened)},
        original=_TextOriginal(route, prepare, opened),
    )


def _output(route: Route, graph: _SharedGraph, opened: _OpenedDirectory) -> Output:
    model, recipe, path = opened
    if opened.key == "sparse":
        return SparseOutput(tensor=text.OUTPUT, space=_SPACE, dim=graph.dim, top=model.max_active_dims)
    common: dict[str, Any] = {
        "space": _SPACE,
        "dim": graph.dim,
        "normalized": normalizes(route, recipe, path),
        "dims": tuple(sorted(recipe.of(route.name).dims or ())),
    }
    if opened.key == "tokens":
        return MultiVectorOutput(tensor=text.OUTPUT, keep=keep_of(route), **common)
    return DenseOutput(tensor=text.OUTPUT, **common)


class _TextOriginal:
    """The original: `encode` of sentence-transformers on one text."""

    def __init__(self, route: Route, prepare: TextPrepare, opened: _OpenedDirectory) -> None:
        self._model, self._key, self._prepare = opened.model, opened.key, prepare
        self._options: dict[str, Any] = {"task": route.task, "show_progress_bar": False}
        if self._key == "sparse":
            self._options["convert_to_sparse_tensor"] = False
        else:
            self._options["normalize_embeddings"] = normalizes(route, opened.recipe, opened.path)

    def __call__(self, content: str | Text) -> dict[str, Any]:
        one, prompt = content if isinstance(content, str) else content.text, text.before(self._prepare, content)
        with quiet():
            found = self._model.encode(one, prompt=prompt, **self._options)
        return {self._key: found.numpy() if isinstance(found, Tensor) else np.asarray(found, dtype=np.float32)}


def _space(routes: Sequence[Route], graphs: Mapping[str, _SharedGraph], opened: _OpenedDirectory) -> SpaceSource:
    """Return the space, defined by the weights and configs of every route."""
    model, recipe, path = opened
    modules = list(dict.fromkeys(graph.module for graph in graphs.values()))
    module: nn.Module = modules[0] if len(modules) == 1 else nn.ModuleList(modules)
    described = [module.described() for module in modules]
    definition = weights.definition(
        module, path, without=text.POOLER, heads=described[0] if len(modules) == 1 else described
    )
    if not (path / "config.json").is_file():  # each module of a router has its own directory
        files = sorted(path.rglob("config.json"))
        definition["config"] = {file.relative_to(path).as_posix(): weights.config_facts(file) for file in files}
    definition["normalized"] = normalizes(routes[0], recipe, path)
    metric = _METRICS.get(opened.key) or _METRICS.get(model.similarity_fn_name, "cosine")
    return SpaceSource(definition=definition, dim=graphs[routes[0].name].dim, metric=metric)

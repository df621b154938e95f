"""Shared by families of one image or video tower: pixels to states, then vectors and a classifier's scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge.bundle.output_specs import ScoresOutput
from embedge.bundle.part_specs import ImagePrepare, VideoPrepare
from embedge_export.model import SourceModel, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import unit
from embedge_export.sources.families._originals import ReadTensors, original
from embedge_export.sources.families._towers import model_of, tower
from embedge_export.sources.torch.graph import TorchGraph

__all__ = ["ClassifierHead", "PoolStates", "one_tower"]

PoolStates = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pools states (batch, tokens, dim) into a vector (batch, dim) and vectors of pieces (batch, places, dim)."""


@dataclass(frozen=True)
class ClassifierHead:
    """The head of a classifier.

    Attributes:
        logits: Maps states (batch, tokens, dim) to logits (batch, labels).
        classifier: The original's own classifier.
    """

    logits: nn.Module
    classifier: Any

    @property
    def output(self) -> ScoresOutput:
        """The logits, with the classifier's label names."""
        config = self.classifier.config
        labels = tuple(str(config.id2label[place]) for place in range(config.num_labels))
        return ScoresOutput(tensor="scores", labels=labels)


class _PooledStates(nn.Module):
    """uint8 pixels to pooled states."""

    def __init__(self, front: nn.Module, model: Any, pool: PoolStates) -> None:
        super().__init__()
        self.front, self.model, self.pool = front, model, pool

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self.pool(self.model(self.front(pixels)).last_hidden_state)


class _ScoredStates(_PooledStates):
    """uint8 pixels to pooled states and logits."""

    def __init__(self, front: nn.Module, model: Any, pool: PoolStates, logits: nn.Module) -> None:
        super().__init__(front, model, pool)
        self.logits = logits

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        states = self.model(self.front(pixels)).last_hidden_state
        return *self.pool(states), self.logits(states)


def one_tower(
    path: Path,
    recipe: Recipe,
    name: str,
    *,
    model: Any,
    prepare: ImagePrepare | VideoPrepare,
    front: nn.Module,
    read: ReadTensors,
    pool: PoolStates,
    pieces: str,
    head: ClassifierHead | None = None,
) -> SourceModel:
    """Return a model with one tower.

    Args:
        path: The model's directory.
        recipe: Decides on normalization and dims.
        name: The tower's name.
        model: The backbone.
        prepare: Preparation of images or videos.
        front: Maps uint8 pixels to the backbone's input.
        read: The original's reading of one item.
        pool: Pooling of the last states.
        pieces: Name of the output for vectors of pieces.
        head: A classifier on top of `model`, for an output `scores`.
    """
    normalized = bool(recipe.of(name).normalize)

    def finish(states: Tensor) -> tuple[Tensor, Tensor]:
        dense, places = pool(states)
        return (unit(dense), unit(places)) if normalized else (dense, places)

    def encode(**inputs: Tensor) -> dict[str, Tensor]:
        dense, places = finish(model(**inputs).last_hidden_state)
        scores = {} if head is None else {"scores": head.classifier(**inputs).logits}
        return {"dense": dense, pieces: places, **scores}

    source = tower(
        recipe,
        name,
        prepare,
        _PooledStates(front, model, finish),
        original(read, encode),
        space=model.config.model_type,
        dim=model.config.hidden_size,
        normalized=normalized,
        pieces=pieces,
    )
    if head is not None:
        source = _with(head, source, _ScoredStates(front, model, finish, head.logits))
    return model_of(path, model, front, {name: source})


def _with(head: ClassifierHead, source: TowerSource, module: nn.Module) -> TowerSource:
    """Return the tower with the output `scores`, the last tensor of `module`."""
    outputs = {**source.outputs, "scores": head.output}
    graph = TorchGraph(module, tuple(output.tensors[0] for output in outputs.values()))
    return replace(source, graph=graph, outputs=outputs)

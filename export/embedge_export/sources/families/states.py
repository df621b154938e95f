"""What families of one tower that sees have in common: pixels to last states, and these to a vector and to many."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge.prepare import ImagePrepare, VideoPrepare
from embedge_export.recipe import Recipe
from embedge_export.sources.base import Model
from embedge_export.sources.families.common import unit
from embedge_export.sources.families.readers import Reader, original
from embedge_export.sources.families.towers import model_of, tower

__all__ = ["Pool", "one_tower"]

Pool = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Makes states (batch, tokens, dim) a vector (batch, dim) and vectors of pieces (batch, places, dim)."""


class _Seen(nn.Module):
    """uint8 pixels to pooled states."""

    def __init__(self, front: nn.Module, model: Any, pool: Pool) -> None:
        super().__init__()
        self.front, self.model, self.pool = front, model, pool

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.pool(self.model(self.front(pixels)).last_hidden_state)


def one_tower(
    path: Path,
    recipe: Recipe,
    name: str,
    *,
    model: Any,
    prepare: ImagePrepare | VideoPrepare,
    front: nn.Module,
    read: Reader,
    pool: Pool,
    pieces: str,
) -> Model:
    """Return the model of the tower `name`: vectors as they are, or of length 1 where the recipe says so."""
    normalized = bool(recipe.of(name).normalize)

    def finish(states: Tensor) -> tuple[Tensor, Tensor]:
        dense, places = pool(states)
        return (unit(dense), unit(places)) if normalized else (dense, places)

    def encode(**inputs: Tensor) -> dict[str, Tensor]:
        dense, places = finish(model(**inputs).last_hidden_state)
        return {"dense": dense, pieces: places}

    source = tower(
        recipe,
        name,
        prepare,
        _Seen(front, model, finish),
        original(read, encode),
        space=model.config.model_type,
        dim=model.config.hidden_size,
        normalized=normalized,
        pieces=pieces,
    )
    return model_of(path, model, front, {name: source})

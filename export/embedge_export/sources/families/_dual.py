"""Shared by families of texts and images, or texts and videos: a tower for each, in one space."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge_export.model import SourceModel, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import text_input, unit
from embedge_export.sources.families._originals import image_reader, original, text_reader
from embedge_export.sources.families._towers import model_of, tower
from embedge_export.sources.preprocess.image import from_processor

__all__ = ["text_and_image", "text_tower"]


class _DualText(nn.Module):
    """Token ids to normalized vectors (batch, dim), without a mask: the model needs none."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor) -> Tensor:
        return unit(self.model.get_text_features(input_ids).pooler_output)


class _MaskedText(_DualText):
    """Token ids and masks to normalized vectors (batch, dim)."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # type: ignore[override]
        return unit(self.model.get_text_features(input_ids, attention_mask).pooler_output)


class _DualImage(nn.Module):
    """uint8 pixels to normalized vectors (batch, dim)."""

    def __init__(self, model: Any, front: nn.Module) -> None:
        super().__init__()
        self.model, self.front = model, front

    def forward(self, pixels: Tensor) -> Tensor:
        return unit(self.model.get_image_features(self.front(pixels)).pooler_output)


def text_and_image(
    path: Path, recipe: Recipe, model: Any, processor: Any, *, dim: int, scale: float, bias: float = 0.0, **text: Any
) -> SourceModel:
    """Return a model with a text tower and an image tower. `text` holds arguments of `text_tower`."""
    reads, files = text_tower(path, recipe, model, processor, dim=dim, **text)
    image, front = from_processor(processor.image_processor, name="pixels")
    sees = tower(
        recipe,
        "image",
        image,
        _DualImage(model, front),
        original(image_reader(processor), lambda **of: {"dense": unit(model.get_image_features(**of).pooler_output)}),
        space=model.config.model_type,
        dim=dim,
        normalized=True,
    )
    return model_of(path, model, front, {"text": reads, "image": sees}, files=files, scale=scale, bias=bias)


def text_tower(
    path: Path, recipe: Recipe, model: Any, processor: Any, *, dim: int, masked: bool = False, **settings: Any
) -> tuple[TowerSource, Mapping[str, bytes]]:
    """Return the tower of a model's `get_text_features`, and its files.

    `masked` gives the graph a mask. `settings` holds `limit`, and fields of `TextPrepare`.
    """
    config = model.config.text_config
    text, files = text_input(
        path,
        processor.tokenizer,
        recipe,
        inputs={"ids": "input_ids", "mask": "attention_mask"} if masked else {"ids": "input_ids"},
        limit=settings.pop("limit", config.max_position_embeddings),
        table=config.vocab_size,
        **settings,
    )
    source = tower(
        recipe,
        "text",
        text,
        _MaskedText(model) if masked else _DualText(model),
        original(
            text_reader(processor, text), lambda **of: {"dense": unit(model.get_text_features(**of).pooler_output)}
        ),
        space=model.config.model_type,
        dim=dim,
        normalized=True,
    )
    return source, files

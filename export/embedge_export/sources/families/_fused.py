"""Shared by families that read a text and an image together: a tower for each, and one for both at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import Output, ScoresOutput
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources.families._common import text_input
from embedge_export.sources.families._originals import image_reader, original, text_reader
from embedge_export.sources.families._towers import model_of, tower
from embedge_export.sources.preprocess.image import from_processor
from embedge_export.sources.torch.graph import TorchGraph

__all__ = ["FusedEncoder", "need", "text_image_and_both"]

_INPUTS: dict[Any, str] = {"ids": "input_ids", "mask": "attention_mask"}


class FusedEncoder(nn.Module, ABC):
    """A family's computation on normalized pixels and token ids. Vectors of texts and images have length 1."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @abstractmethod
    def text(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return vectors (batch, dim) of token ids (batch, length)."""

    @abstractmethod
    def image(self, pixel_values: Tensor) -> Tensor:
        """Return vectors (batch, dim) of pixels (batch, channels, height, width)."""

    @abstractmethod
    def both(self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor) -> Tensor:
        """Return the result (batch, numbers) of each text with its image."""


class _FusedText(nn.Module):
    def __init__(self, encoder: FusedEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.encoder.text(input_ids, attention_mask)


class _FusedImage(nn.Module):
    def __init__(self, encoder: FusedEncoder, front: nn.Module) -> None:
        super().__init__()
        self.encoder, self.front = encoder, front

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder.image(self.front(pixels))


class _Both(_FusedImage):
    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixels: Tensor) -> Tensor:  # type: ignore[override]
        return self.encoder.both(input_ids, attention_mask, self.front(pixels))


def need(path: Path, model: Any, architecture: str) -> None:
    """Raise ExportError unless the weights were saved from this class: otherwise its heads would be random."""
    saved = ", ".join(model.config.architectures or ()) or "no class"
    if architecture not in saved:
        raise ExportError(f"{path}: needs weights of {architecture}, has those of {saved}")


def text_image_and_both(
    path: Path,
    recipe: Recipe,
    processor: Any,
    encoder: FusedEncoder,
    *,
    dim: int,
    both: str,
    output: Output,
    whole: Callable[..., Tensor],
    scale: float = 1.0,
) -> SourceModel:
    """Return a model with the towers `text`, `image` and the fused one.

    Args:
        path: The model's directory.
        recipe: The recipe.
        processor: The original's processor.
        encoder: The computation of all towers.
        dim: Size of the vectors of texts and images.
        both: Name of the fused tower.
        output: The fused tower's only output.
        whole: The original for both parts, from its inputs to that output, with a batch of one.
        scale: Scale of the common space.
    """
    config, space = encoder.model.config, encoder.model.config.model_type
    limit, table = config.text_config.max_position_embeddings, config.text_config.vocab_size
    text, files = text_input(path, processor.tokenizer, recipe, inputs=_INPUTS, limit=limit, table=table)
    image, front = from_processor(processor.image_processor, name="pixels")
    read, see = text_reader(processor, text), image_reader(processor)
    common: dict[str, Any] = {"space": space, "dim": dim, "normalized": True}

    def reads(input_ids: Tensor, attention_mask: Tensor, **_: Tensor) -> dict[str, Tensor]:
        return {"dense": encoder.text(input_ids, attention_mask)}

    def sees(pixel_values: Tensor, **_: Tensor) -> dict[str, Tensor]:
        return {"dense": encoder.image(pixel_values)}

    def inputs(item: Mapping[str, Any]) -> dict[str, Tensor]:
        return {**read(item["text"]), **see(item["image"])}

    towers = {
        "text": tower(recipe, "text", text, _FusedText(encoder), original(read, reads), **common),
        "image": tower(recipe, "image", image, _FusedImage(encoder, front), original(see, sees), **common),
        both: TowerSource(
            parts={"text": Part(prepare=text), "image": Part(prepare=image)},
            graph=TorchGraph(_Both(encoder, front), output.tensors),
            outputs={output.kind: output},
            original=original(inputs, lambda **given: {output.kind: whole(**given)}),
        ),
    }
    model = model_of(path, encoder.model, front, towers, files=files, scale=scale)
    return model if isinstance(output, ScoresOutput) else _apart(model, output.space, both)


def _apart(model: SourceModel, key: str, tower: str) -> SourceModel:
    """Return the model with a space for fused vectors: other than that of the parts, from the same weights."""
    space = model.spaces[key]
    own = replace(space, definition={**space.definition, "tower": tower}, scale=1.0)
    return replace(model, spaces={**model.spaces, key: own})

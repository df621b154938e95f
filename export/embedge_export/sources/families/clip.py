"""CLIP: a text tower and an image tower with one space (Radford et al., 2021, arXiv:2103.00020)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from embedge.content import Image
from embedge.kinds import DenseOutput
from embedge.manifest import Part
from embedge_export.recipe import Recipe
from embedge_export.sources import weights
from embedge_export.sources.base import Model, SpaceSource, TowerSource
from embedge_export.sources.families.common import prefix, pretrained, processor_of, text_input, unit
from embedge_export.sources.fronts.image import from_processor
from embedge_export.sources.originals import picture
from embedge_export.sources.torch_graph import TorchGraph, tools

__all__ = ["load"]


class _Text(nn.Module):
    """Token ids to vectors. No mask: a token sees those before it only, and the vector is the first end token's."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.model, self.projection = clip.text_model, clip.text_projection

    def forward(self, input_ids: Tensor) -> Tensor:
        return unit(self.projection(self.model(input_ids=input_ids).pooler_output))


class _Image(nn.Module):
    """uint8 pixels to vectors."""

    def __init__(self, clip: Any, front: nn.Module) -> None:
        super().__init__()
        self.front, self.model, self.projection = front, clip.vision_model, clip.visual_projection

    def forward(self, pixels: Tensor) -> Tensor:
        return unit(self.projection(self.model(pixel_values=self.front(pixels)).pooler_output))


def load(path: Path, recipe: Recipe) -> Model:
    """Load a directory of CLIPModel and its processor. Raises ExportError."""
    clip, processor = pretrained(path, "CLIPModel"), processor_of(path)
    config = clip.config.text_config
    text, files = text_input(
        path,
        processor.tokenizer,
        recipe,
        inputs={"ids": "input_ids"},
        limit=config.max_position_embeddings,
        table=config.vocab_size,
    )
    image, front = from_processor(processor.image_processor, name="pixels")

    def original_text(content: str) -> dict[str, Any]:
        tokens = {"truncation": True, "max_length": text.max_length}
        inputs = processor(text=[prefix(text) + content], **tokens, return_tensors="pt")
        with torch.no_grad():
            return {"dense": unit(clip.get_text_features(**inputs).pooler_output)[0].numpy()}

    def original_image(content: Image) -> dict[str, Any]:
        inputs = processor(images=picture(content), return_tensors="pt")
        with torch.no_grad():
            return {"dense": unit(clip.get_image_features(**inputs).pooler_output)[0].numpy()}

    def output(tower: str) -> dict[str, Any]:
        dims = recipe.of(tower).dims or ()
        return {"dense": DenseOutput(tensor="vector", space="clip", dim=dim, normalized=True, dims=dims)}

    dim = clip.config.projection_dim
    towers = {
        "text": TowerSource(
            parts={"text": Part(prepare=text)},
            graph=TorchGraph(_Text(clip), ("vector",)),
            outputs=output("text"),
            original=original_text,
        ),
        "image": TowerSource(
            parts={"image": Part(prepare=image)},
            graph=TorchGraph(_Image(clip, front), ("vector",)),
            outputs=output("image"),
            original=original_image,
        ),
    }
    space = SpaceSource(definition=weights.definition(clip, path), dim=dim, scale=clip.logit_scale.exp().item())
    return Model(
        kind="clip",
        towers=towers,
        spaces={"clip": space},
        files=files,
        hashes=weights.file_hashes(path),
        tools=tools("transformers", "torch", "onnxscript"),
    )

"""Qwen2-VL (Wang et al., 2024, arXiv:2409.12191) as an embedder: the last token's vector of a text, or of an image with
a text (which may be empty), in one space.

The original runs the patches of all images of a batch as one long row, and finds places of tokens in Python. Here every
item has one image, scaled to the largest square that the processor allows, so that patches lie in rows of a batch and
places come from the mask. A chat template, where there is one, stands around each text as a user's message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embedge.kinds import DenseOutput
from embedge.manifest import Part
from embedge.prepare import ImagePrepare, Resize
from embedge_export.recipe import Recipe
from embedge_export.sources.base import Model, TowerSource
from embedge_export.sources.families.chat import Chat, chat_of
from embedge_export.sources.families.common import pretrained, processor_of, unit
from embedge_export.sources.families.decoder import LastToken, own_places
from embedge_export.sources.families.readers import Reader, original
from embedge_export.sources.families.towers import model_of, tower
from embedge_export.sources.fronts.image import Normalizer
from embedge_export.sources.originals import picture
from embedge_export.sources.torch_graph import TorchGraph

__all__ = ["load"]

_IMAGE = "<|image_pad|>"


class Sight(nn.Module):
    """Normalised pixels of square images (batch, 3, side, side) to vectors of their places (batch, places, dim).

    The same as the original's `visual` on each image alone: rows of a batch do not see each other.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, visual: Any, side: int) -> None:
        super().__init__()
        from transformers.vision_utils import get_vision_position_ids

        self.visual, self.merge = visual, visual.spatial_merge_size
        self.patch, self.frames = visual.patch_embed.patch_size, visual.patch_embed.temporal_patch_size
        grid = torch.tensor([[1, side // self.patch, side // self.patch]])
        cos, sin = visual.rotary_pos_emb(torch.zeros(1), get_vision_position_ids(grid, self.merge))
        self.register_buffer("cos", cos.detach(), persistent=False)
        self.register_buffer("sin", sin.detach(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the vectors, row by row of the image's merged patches."""
        states = self.visual.patch_embed(self._patches(pixels)).unflatten(0, (-1, self.cos.shape[0]))
        for block in self.visual.blocks:
            states = states + self._attend(block.attn, block.norm1(states))
            states = states + block.mlp(block.norm2(states))
        merged: Tensor = self.visual.merger(states).unflatten(0, (-1, self.cos.shape[0] // self.merge**2))
        return merged

    def _patches(self, pixels: Tensor) -> Tensor:
        """Return flat patches, those that are merged side by side, the image as often as a patch has frames."""
        cut = (-1, self.merge, self.patch)
        # batch, 3, down, merge, patch, across, merge, patch
        tiles: Tensor = pixels.unflatten(3, cut).unflatten(2, cut)  # type: ignore[no-untyped-call]
        tiles = tiles.permute(0, 2, 5, 3, 6, 1, 4, 7).flatten(0, 4)
        return tiles.unsqueeze(2).expand(-1, -1, self.frames, -1, -1).flatten(1)

    def _attend(self, attention: Any, states: Tensor) -> Tensor:
        from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

        query, key, value = attention.qkv(states).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, self.cos, self.sin)
        scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) * attention.scaling
        seen = scores.softmax(dim=-1) @ value.transpose(1, 2)
        projected: Tensor = attention.proj(seen.transpose(1, 2).flatten(2))
        return projected


class _Text(nn.Module):
    def __init__(self, model: Any, last: LastToken) -> None:
        super().__init__()
        self.embed, self.language, self.last = model.get_input_embeddings(), model.language_model, last

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = own_places(attention_mask).expand(3, -1, -1)
        return self.read(self.embed(input_ids), attention_mask, places)

    def read(self, tokens: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        """Return the vectors of tokens (batch, length, dim) at places (3, batch, length): time, height, width."""
        found = self.language(inputs_embeds=tokens, attention_mask=mask, position_ids=places, use_cache=False)
        vectors: Tensor = self.last(found.last_hidden_state, mask)
        return vectors


class _Image(_Text):
    """Rows that all hold one image: as many of its token, in a row, as it has places."""

    def __init__(self, model: Any, last: LastToken, front: nn.Module, sight: Sight, side: int) -> None:
        super().__init__(model, last)
        self.front, self.sight, self.token = front, sight, model.config.image_token_id
        self.across = side // sight.patch // sight.merge

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pixels: Tensor) -> Tensor:  # type: ignore[override]
        seen = self.sight(self.front(pixels))
        shown = (input_ids == self.token).to(torch.int64)
        number = shown.cumsum(dim=1)  # of the image's tokens so far
        which = self._which(number)
        picked = seen.gather(1, which.unsqueeze(-1).expand(-1, -1, seen.shape[-1]))
        tokens = torch.where(shown.unsqueeze(-1) == 1, picked, self.embed(input_ids))
        return self.read(tokens, attention_mask, self._places(own_places(attention_mask), shown, number))

    def _which(self, number: Tensor) -> Tensor:
        """Return which of the image's places each token shows. A text that holds its token as well shows the last."""
        return (number - 1).clamp(min=0, max=self.across**2 - 1)

    def _places(self, places: Tensor, shown: Tensor, number: Tensor) -> Tensor:
        """Return places in time, height and width: an image takes as many as it is wide, at one point in time."""
        which = self._which(number)
        first = places - which
        inside = torch.stack([first, first + which // self.across, first + which % self.across])
        behind = places - (number >= self.across**2).to(torch.int64) * (self.across**2 - self.across)
        return torch.where(shown == 1, inside, behind)


def load(path: Path, recipe: Recipe) -> Model:
    """Load a directory of Qwen2VLModel, or of a language model on top, and its processor. Raises ExportError."""
    model, tokenizer = pretrained(path, "Qwen2VLModel"), processor_of(path, "AutoTokenizer")
    processor = processor_of(path, "AutoImageProcessor")
    prepare, front = image_input(processor)
    sight = Sight(model.visual, prepare.height)
    count = sight.cos.shape[0] // sight.merge**2
    last = LastToken(normalized=bool(recipe.normalize))
    reads = chat_of(path, recipe, tokenizer, model.config.text_config, tower="text")
    sees = chat_of(path, recipe, tokenizer, model.config.text_config, tower="image", image=_IMAGE, count=count)

    def encode(**inputs: Tensor) -> dict[str, Tensor]:
        states = model(**inputs).last_hidden_state[:, -1]
        return {"dense": unit(states) if last.normalized else states}

    space: dict[str, Any] = {"space": "qwen2_vl", "dim": model.config.text_config.hidden_size}
    space["normalized"] = last.normalized
    text = tower(recipe, "text", reads.prepare, _Text(model, last), original(reads.read, encode), **space)
    image = TowerSource(
        parts={"image": Part(prepare=prepare), "text": Part(prepare=sees.prepare)},
        graph=TorchGraph(_Image(model, last, front, sight, prepare.height), ("vector",)),
        outputs={"dense": DenseOutput(tensor="vector", dims=recipe.of("image").dims or (), **space)},
        original=original(_reader(processor, sees, prepare.height, model.config.image_token_id), encode),
    )
    return model_of(path, model, front, {"text": text, "image": image}, files={**reads.files, **sees.files})


def image_input(processor: Any) -> tuple[ImagePrepare, Normalizer]:
    """Return how images become the largest square that the processor allows, and what comes after it."""
    step = processor.patch_size * processor.merge_size
    side = math.isqrt(processor.size["longest_edge"]) // step * step
    prepare = ImagePrepare(
        inputs={"pixels": "pixels"},
        alpha="white",
        height=side,
        width=side,
        steps=(Resize(height=side, width=side, resample="bicubic"),),
    )
    scale, mean, std = processor.rescale_factor, np.array(processor.image_mean), np.array(processor.image_std)
    return prepare, Normalizer((scale / std).tolist(), (-mean / std).tolist())


def _reader(processor: Any, chat: Chat, side: int, token: int) -> Reader:
    """Return what reads an image with its text as the original does, the image scaled to the square before."""

    def read(item: Mapping[str, Any]) -> Mapping[str, Tensor]:
        from PIL import Image as Pillow

        image = picture(item["image"])
        inputs = chat.read(item["text"])
        seen = processor(
            images=image.convert("RGB").resize((side, side), Pillow.Resampling.BICUBIC), return_tensors="pt"
        )
        return {**inputs, **seen, "mm_token_type_ids": (inputs["input_ids"] == token).to(torch.int32)}

    return read

"""Qwen2-VL (Wang et al., 2024, arXiv:2409.12191) as an embedder: the last token's vector of a text, or of an image with
a text (which may be empty), in one space.

The original runs the patches of all images of a batch as one long row, and computes positions in Python. Here every
item has one image, of any size and ratio that the processor allows. Tiles lie in rows of a batch, and positions come
from masks and grids. With a chat template, each text is a user's message.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import ImagePrepare, Tiles
from embedge_export.model import SourceModel, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.sources.families._chat import Chat, chat_of
from embedge_export.sources.families._common import pretrained, processor_of, unit
from embedge_export.sources.families._originals import ReadTensors, original
from embedge_export.sources.families._towers import model_of, tower
from embedge_export.sources.families.qwen2 import LastToken, own_places
from embedge_export.sources.originals import picture
from embedge_export.sources.preprocess.image import Normalizer
from embedge_export.sources.torch.graph import TorchGraph

__all__ = ["load"]


class Sight(nn.Module):
    """Normalised tiles (batch, tiles, merge * merge, 3, patch, patch) to vectors (batch, tiles, dim).

    Computes the original's `visual` on each image alone: attention stays within a row, and skips padding.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual, self.merge = visual, visual.spatial_merge_size
        self.frames = visual.patch_embed.temporal_patch_size

    def forward(self, tiles: Tensor, mask: Tensor, grid: Tensor) -> Tensor:
        """Return the vectors (batch, tiles, dim). `mask`: (batch, tiles). `grid`: (batch, 2), tiles down and across."""
        count = tiles.shape[1] * self.merge**2
        patches = tiles.unsqueeze(4).expand(
            -1, -1, -1, -1, self.frames, -1, -1
        )  # an image counts as this many equal frames
        states = self.visual.patch_embed(patches.flatten(0, 2).flatten(1)).unflatten(0, (-1, count))
        hidden = mask.unsqueeze(-1).expand(-1, -1, self.merge**2).flatten(1)[:, None, None] == 0
        turns = self._turns(grid, tiles.shape[1])
        for block in self.visual.blocks:
            states = states + self._attend(block.attn, block.norm1(states), hidden, turns)
            states = states + block.mlp(block.norm2(states))
        merged: Tensor = self.visual.merger(states).unflatten(0, (-1, tiles.shape[1]))
        return merged

    def _turns(self, grid: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines of the patches' positions: (batch, patches, dim of a head)."""
        place, inside = torch.arange(count), torch.arange(self.merge**2)
        across = grid[:, 1:].clamp(min=1)
        down = (place // across).unsqueeze(-1) * self.merge + inside // self.merge
        right = (place % across).unsqueeze(-1) * self.merge + inside % self.merge
        places = torch.stack([down, right], dim=-1)
        cos, sin = self.visual.rotary_pos_emb(places, places.flatten(0, 2))
        shape = (-1, count * self.merge**2)
        return cos.unflatten(0, shape), sin.unflatten(0, shape)

    def _attend(self, attention: Any, states: Tensor, hidden: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

        query, key, value = attention.qkv(states).unflatten(-1, (3, attention.num_heads, -1)).unbind(2)
        query, key = apply_rotary_pos_emb_vision(query, key, *turns)
        scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) * attention.scaling
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        seen = scores.softmax(dim=-1) @ value.transpose(1, 2)
        projected: Tensor = attention.proj(seen.transpose(1, 2).flatten(2))
        return projected


class _Qwen2VlText(nn.Module):
    def __init__(self, model: Any, last: LastToken) -> None:
        super().__init__()
        self.embed, self.language, self.last = model.get_input_embeddings(), model.language_model, last

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = own_places(attention_mask).expand(3, -1, -1)
        return self.read(self.embed(input_ids), attention_mask, places)

    def read(self, tokens: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        """Return the vectors (batch, dim) of tokens (batch, length, dim) at (3, batch, length): time, height, width."""
        found = self.language(inputs_embeds=tokens, attention_mask=mask, position_ids=places, use_cache=False)
        vectors: Tensor = self.last(found.last_hidden_state, mask)
        return vectors


class _Qwen2VlImage(_Qwen2VlText):
    """Rows with one image each: its token occurs once in the text, and expands to the image's vectors."""

    def __init__(self, model: Any, last: LastToken, front: nn.Module, sight: Sight) -> None:
        super().__init__(model, last)
        self.front, self.sight, self.token = front, sight, model.config.image_token_id

    def forward(  # type: ignore[override]
        self, input_ids: Tensor, attention_mask: Tensor, tiles: Tensor, tiles_mask: Tensor, grid: Tensor
    ) -> Tensor:
        seen = self.sight(self.front(tiles), tiles_mask, grid)
        # Only the first image token expands; others in the text stay tokens.
        begin = ((input_ids == self.token).cumsum(dim=1) == 0).sum(dim=1, keepdim=True)
        count = tiles_mask.sum(dim=1, keepdim=True)
        place = torch.arange(input_ids.shape[1] + tiles.shape[1] - 1).unsqueeze(0)
        shown, behind = (place >= begin) & (place < begin + count), place >= begin + count
        # The source of each position: texts and images are concatenated.
        source = place + torch.where(shown, input_ids.shape[1] - begin, torch.where(behind, 1 - count, 0))
        both = torch.cat([self.embed(input_ids), seen], dim=1)
        tokens = both.gather(1, source.unsqueeze(-1).expand(-1, -1, both.shape[-1]))
        mask = torch.cat([attention_mask, torch.zeros_like(tiles_mask)], dim=1).gather(1, source)
        mask = torch.where(shown, 1, mask)
        own = own_places(mask)
        moved = own - torch.where(behind, count - grid.amax(dim=1, keepdim=True), 0)
        inside = self._inside(own, place - begin, grid[:, 1:].clamp(min=1))
        return self.read(tokens, mask, torch.where(shown, inside, moved))

    def _inside(self, own: Tensor, which: Tensor, across: Tensor) -> Tensor:
        """Return an image's positions in time, height and width; time is constant."""
        first = own - which
        return torch.stack([first, first + which // across, first + which % across])


def load(path: Path, recipe: Recipe) -> SourceModel:
    """Load a directory of Qwen2VLModel, or of a language model on it, and its processor. Raises ExportError."""
    model, tokenizer = pretrained(path, "Qwen2VLModel"), processor_of(path, "AutoTokenizer")
    processor = processor_of(path, "AutoImageProcessor")
    prepare, front = image_input(processor)
    last = LastToken(normalized=bool(recipe.normalize))
    reads = chat_of(path, recipe, tokenizer, model.config.text_config, tower="text")
    sees = chat_of(path, recipe, tokenizer, model.config.text_config, tower="image", image=True)

    def encode(**inputs: Tensor) -> dict[str, Tensor]:
        states = model(**inputs).last_hidden_state[:, -1]
        return {"dense": unit(states) if last.normalized else states}

    space: dict[str, Any] = {"space": "qwen2_vl", "dim": model.config.text_config.hidden_size}
    space["normalized"] = last.normalized
    text = tower(recipe, "text", reads.prepare, _Qwen2VlText(model, last), original(reads.read, encode), **space)
    image = TowerSource(
        parts={"image": Part(prepare=prepare), "text": Part(prepare=sees.prepare)},
        graph=TorchGraph(_Qwen2VlImage(model, last, front, Sight(model.visual)), ("vector",)),
        outputs={"dense": DenseOutput(tensor="vector", dims=recipe.of("image").dims or (), **space)},
        original=original(_reader(processor, sees, model.config.image_token_id), encode),
    )
    return model_of(path, model, front, {"text": text, "image": image}, files={**reads.files, **sees.files})


def image_input(processor: Any) -> tuple[ImagePrepare, Normalizer]:
    """Return the processor's preparation of images as tiles, and the module for their pixels."""
    from PIL import Image as Pillow

    least, most = processor.size["shortest_edge"], processor.size["longest_edge"]
    tiles = Tiles(
        patch=processor.patch_size,
        merge=processor.merge_size,
        min_pixels=least,
        max_pixels=most,
        resample=Pillow.Resampling(processor.resample).name.lower(),  # type: ignore[arg-type]
    )
    side = math.isqrt(most) // tiles.edge * tiles.edge
    inputs: dict[Any, str] = {"pixels": "tiles", "mask": "tiles_mask", "grid": "grid"}
    prepare = ImagePrepare(inputs=inputs, alpha="white", height=side, width=side, tiles=tiles)
    scale, mean, std = processor.rescale_factor, np.array(processor.image_mean), np.array(processor.image_std)
    return prepare, Normalizer((scale / std).tolist(), (-mean / std).tolist())


def _reader(processor: Any, chat: Chat, token: int) -> ReadTensors:
    """Return the original's reading of an image with its text: the image token repeats once per vector."""

    def read(item: Mapping[str, Any]) -> Mapping[str, Tensor]:
        seen = processor(images=picture(item["image"]), return_tensors="pt")
        count = int(seen["image_grid_thw"].prod()) // processor.merge_size**2
        ids = chat.read(item["text"])["input_ids"]
        begin = int((ids == token).int().argmax())
        ids = torch.cat([ids[:, :begin], torch.full((1, count), token), ids[:, begin + 1 :]], dim=1)
        kinds = torch.zeros_like(ids, dtype=torch.int32)
        kinds[:, begin : begin + count] = 1
        return {**seen, "input_ids": ids, "attention_mask": torch.ones_like(ids), "mm_token_type_ids": kinds}

    return read

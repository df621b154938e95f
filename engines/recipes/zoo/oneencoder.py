"""Modalities added one after the other to a frozen shared trunk, after OneEncoder (arXiv:2409.11059)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ImageFront", "Projection", "SeriesFront", "TextFront"]


class Projection(nn.Module):
    """The universal projection: tokens (batch, places, 32) to vectors (batch, dim) of length 1, whatever made them.

    `kept` (batch, places) is 0 where a place is padded.
    """

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.project = nn.Linear(32, dim)

    def forward(self, tokens: Tensor, kept: Tensor) -> Tensor:
        encoded = self.encode(tokens, src_key_padding_mask=kept == 0)
        weights = (kept / kept.sum(1, keepdim=True)).unsqueeze(1)
        return functional.normalize(self.project((weights @ encoded).squeeze(1)), dim=-1)


class ImageFront(nn.Module):
    """Pixels uint8 (batch, 3, 32, 32) to a token a patch; `modality` is the learnt token that is added to each."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.modality = nn.Parameter(torch.randn(32))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.patches(pixels.float() / 127.5 - 1).flatten(2).transpose(1, 2) + self.modality
        return tokens, torch.ones_like(tokens[..., 0])


class TextFront(nn.Module):
    """Token ids (batch, length) to a token each."""

    def __init__(self, words: int = 259) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 32)
        self.modality = nn.Parameter(torch.randn(32))

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        tokens = self.words(ids) + self.modality
        return tokens, torch.ones_like(tokens[..., 0]) if mask is None else mask.float()


class SeriesFront(nn.Module):
    """Steps of a series (batch, time, 5) to a token each: the modality that comes last."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(5, 32)
        self.modality = nn.Parameter(torch.randn(32))

    def forward(self, series: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        tokens = self.step(series) + self.modality
        return tokens, torch.ones_like(tokens[..., 0]) if mask is None else mask.float()

"""Two small towers in one space: pictures of digits, and captions that say what is in them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CaptionTower", "PictureTower"]


class PictureTower(nn.Module):
    """Pixels uint8 (batch, 3, 24, 48) to vectors (batch, dim) of length 1."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__()
        self.encode = nn.Sequential(*_halve(3, 32), *_halve(32, 64), *_halve(64, 128), nn.Flatten())
        self.project = nn.Linear(128 * 3 * 6, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        return functional.normalize(self.project(self.encode(pixels.float() / 127.5 - 1)), dim=-1)


def _halve(channels: int, more: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, more, 3, stride=2, padding=1), nn.BatchNorm2d(more), nn.GELU()


class CaptionTower(nn.Module):
    """Token ids and mask (batch, length) to vectors (batch, dim) of length 1: the mean of the encoded tokens."""

    def __init__(self, vocabulary: int, longest: int = 16, width: int = 96, dim: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.places = nn.Parameter(torch.randn(longest, width) / 50)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.project = nn.Linear(width, dim)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        own = mask != 0
        encoded = self.encode(self.tokens(ids) + self.places[: ids.shape[1]], src_key_padding_mask=~own)
        weights = own.unsqueeze(-1).float()
        return functional.normalize(self.project((encoded * weights).sum(1) / weights.sum(1)), dim=-1)

"""A small tower for texts, to stand beside towers of other modalities."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["WordTower"]


class WordTower(nn.Module):
    """Token ids and mask (batch, length) to vectors (batch, dim) of length 1: the mean of the encoded tokens."""

    def __init__(self, vocabulary: int = 259, dim: int = 32) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.project = nn.Linear(32, dim)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        own = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask != 0
        encoded = self.encode(self.tokens(ids), src_key_padding_mask=~own)
        weights = own.unsqueeze(-1).float()
        return functional.normalize(self.project((encoded * weights).sum(1) / weights.sum(1)), dim=-1)

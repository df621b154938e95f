"""A tower for sequences of events, after life2vec (Savcisens et al., 2023, arXiv:2306.03009)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["EventTower"]


class EventTower(nn.Module):
    """Event numbers and days (batch, events) to vectors (batch, dim) of length 1: what the last event has seen.

    Attention looks back only. `mask` (batch, events) is 0 after a row's last event.
    """

    def __init__(self, kinds: int = 100, dim: int = 32) -> None:
        super().__init__()
        self.kinds = nn.Embedding(kinds, 32)
        self.frequency = nn.Parameter(torch.randn(32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.project = nn.Linear(32, dim)

    def forward(self, events: Tensor, days: Tensor, mask: Tensor | None = None) -> Tensor:
        count = events.shape[1]
        tokens = self.kinds(events) + torch.sin(days.unsqueeze(-1) * self.frequency / 30)
        later = torch.ones(count, count, dtype=torch.bool).triu(1)
        encoded = self.encode(tokens, mask=later, is_causal=True)  # what is padded comes later, so no own event sees it
        own = torch.ones_like(events) if mask is None else (mask != 0).long()
        last = (own.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, 32)
        return functional.normalize(self.project(encoded.gather(1, last).squeeze(1)), dim=-1)

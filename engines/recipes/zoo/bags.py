"""Bags of patches, pooled by gated attention (Ilse et al., 2018, arXiv:1802.04712), after PIBD."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Bag", "Patch"]


class Patch(nn.Module):
    """A patch's features (batch, 48) to its vector (batch, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, features: Tensor) -> Tensor:
        return self.encode(features)


class Bag(nn.Module):
    """Vectors of patches (batch, pieces, 32) to a vector of the slide, of length 1, and its risk.

    `mask` (batch, pieces) is 0 where there is no piece.
    """

    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.value, self.gate, self.weigh = nn.Linear(32, 16), nn.Linear(32, 16), nn.Linear(16, 1)
        self.project, self.risk = nn.Linear(32, dim), nn.Linear(32, 1)

    def forward(self, patches: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        scores = self.weigh(torch.tanh(self.value(patches)) * torch.sigmoid(self.gate(patches))).squeeze(-1)
        hidden = torch.zeros_like(scores, dtype=torch.bool) if mask is None else mask == 0
        weights = scores.masked_fill(hidden, -1e9).softmax(1).unsqueeze(1)
        slide = (weights @ patches).squeeze(1)
        return functional.normalize(self.project(slide), dim=-1), self.risk(slide)

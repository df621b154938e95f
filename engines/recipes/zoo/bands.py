"""A tower for images of many bands, after SatMAE (Cong et al., 2022, arXiv:2207.08051)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BandTower"]

GROUPS = ((0, 1, 2, 6), (3, 4, 5, 7), (8, 9))


class BandTower(nn.Module):
    """Reflectances (batch, 10, size, size) to vectors (batch, dim) of length 1: patches of each group are tokens."""

    def __init__(self, size: int = 32, patch: int = 8, dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.ModuleList([nn.Conv2d(len(group), 32, patch, patch) for group in GROUPS])
        self.group = nn.Parameter(torch.randn(len(GROUPS), 32))
        self.place = nn.Parameter(torch.randn((size // patch) ** 2, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.project = nn.Linear(32, dim)

    def forward(self, bands: Tensor) -> Tensor:
        tokens = [
            embed(bands[:, list(group)]).flatten(2).transpose(1, 2) + self.place + mark
            for embed, group, mark in zip(self.patches, GROUPS, self.group, strict=True)
        ]
        return functional.normalize(self.project(self.encode(torch.cat(tokens, dim=1)).mean(1)), dim=-1)

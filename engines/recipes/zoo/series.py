"""A tower for series measured at odd times, with gaps, after mTAN (Shukla and Marlin, 2021, arXiv:2101.10318)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SeriesTower"]


class SeriesTower(nn.Module):
    """Values (batch, time, channels), 1 in `observed` where there is one, and hours (batch, time) to vectors.

    The vectors (batch, dim) have length 1. Attention in time carries each channel from the times of its measurements
    to a fixed grid. A channel without any measurement is 0 on it. `mask` (batch, time) is 0 where a row is padded.
    """

    def __init__(self, channels: int = 4, grid: int = 8, dim: int = 32) -> None:
        super().__init__()
        self.register_buffer("grid", torch.linspace(0, 48, grid))
        self.frequency = nn.Parameter(torch.randn(16))
        self.phase = nn.Parameter(torch.randn(16))
        self.encode = nn.Sequential(nn.Linear(2 * grid * channels, 64), nn.GELU(), nn.Linear(64, dim))

    def when(self, hours: Tensor) -> Tensor:
        return torch.sin(hours.unsqueeze(-1) * self.frequency + self.phase)

    def forward(self, values: Tensor, observed: Tensor, hours: Tensor, mask: Tensor | None = None) -> Tensor:
        own = observed != 0 if mask is None else (observed != 0) & (mask != 0).unsqueeze(-1)
        scores = torch.exp(self.when(self.grid) @ self.when(hours).transpose(1, 2) / 4)  # (batch, grid, time)
        total = scores @ own.float()
        mean = (scores @ (values * own)) / total.clamp(min=1e-6)
        return functional.normalize(self.encode(torch.cat([mean, total.log1p()], dim=-1).flatten(1)), dim=-1)

"""A tower for point clouds, after PointNet (Qi et al., 2017, arXiv:1612.00593)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PointTower"]


class PointTower(nn.Module):
    """Points (batch, points, 3), and 1 in `mask` (batch, points) where one is, to vectors (batch, dim) of length 1."""

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 64), nn.ReLU())
        self.project = nn.Linear(64, dim)

    def forward(self, points: Tensor, mask: Tensor | None = None) -> Tensor:
        features = self.each(points)
        if mask is not None:  # features are 0 or more, so a 0 changes no maximum
            features = features * (mask != 0).unsqueeze(-1)
        return functional.normalize(self.project(features.amax(1)), dim=-1)

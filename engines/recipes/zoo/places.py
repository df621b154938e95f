"""Towers for a place on Earth and for what grows there, after TaxaBind (Sastry et al., 2024, arXiv:2411.00683)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ClimateTower", "PlaceTower"]


class PlaceTower(nn.Module):
    """Latitude and longitude in degrees (batch, 2) to vectors (batch, dim) of length 1.

    The place is a point of the unit sphere, so that 180° east is 180° west, and its coordinates are random Fourier
    features (Tancik et al., 2020, arXiv:2006.10739).
    """

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.register_buffer("waves", torch.randn(3, 32))
        self.encode = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, dim))

    def forward(self, degrees: Tensor) -> Tensor:
        latitude, longitude = (degrees * (math.pi / 180)).unbind(-1)
        sphere = [latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin()]
        angles = torch.stack(sphere, dim=-1) @ self.waves
        return functional.normalize(self.encode(torch.cat([angles.sin(), angles.cos()], dim=-1)), dim=-1)


class ClimateTower(nn.Module):
    """Environmental numbers (batch, numbers), with 1 in `observed` where one was measured, to vectors of length 1."""

    def __init__(self, numbers: int = 20, dim: int = 32) -> None:
        super().__init__()
        self.unknown = nn.Parameter(torch.randn(numbers))
        self.encode = nn.Sequential(nn.Linear(numbers, 64), nn.GELU(), nn.Linear(64, dim))

    def forward(self, values: Tensor, observed: Tensor) -> Tensor:
        return functional.normalize(self.encode(torch.where(observed != 0, values, self.unknown)), dim=-1)

"""Heads that make binary codes of precomputed features, after RREH (arXiv:2405.17777)."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["HashTower"]


class HashTower(nn.Module):
    """Features (batch, numbers) to numbers (batch, bits), whose signs are the bits."""

    def __init__(self, numbers: int, bits: int = 64) -> None:
        super().__init__()
        self.project = nn.Linear(numbers, bits, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.project(features)

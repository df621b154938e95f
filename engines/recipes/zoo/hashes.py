"""Heads that make binary codes of precomputed features, after RREH (arXiv:2405.17777)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["HashTower", "image_hash", "text_hash"]


class HashTower(nn.Module):
    """Features (batch, numbers) to numbers (batch, bits), whose signs are the bits."""

    def __init__(self, numbers: int, bits: int = 64) -> None:
        super().__init__()
        self.project = nn.Linear(numbers, bits, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.project(features)


def image_hash() -> nn.Module:
    torch.manual_seed(0)
    return HashTower(48).eval()


def text_hash() -> nn.Module:
    torch.manual_seed(1)
    return HashTower(24).eval()

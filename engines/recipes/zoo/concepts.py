"""A dense vector and the few concepts that it is made of, after FDT (Chen et al., 2023, arXiv:2303.14865)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ConceptTower"]


class ConceptTower(nn.Module):
    """Pixels uint8 (batch, 3, 32, 32) to weights of concepts (batch, concepts) and their sum (batch, dim), of length 1.

    The weights are the sparsemax (Martins and Astudillo, 2016, arXiv:1602.02068) of how well the best patch of the
    image fits each concept.
    """

    def __init__(self, concepts: int = 64, dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, 8, 8)
        self.table = nn.Parameter(torch.randn(concepts, dim))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        patches = self.patches(pixels.float() / 127.5 - 1).flatten(2).transpose(1, 2)
        weights = sparsemax((patches @ self.table.T).amax(1))
        return weights, functional.normalize(weights @ self.table, dim=-1)


def sparsemax(scores: Tensor) -> Tensor:
    """Return the nearest weights that are 0 or more and sum to 1, along the last axis."""
    ordered = scores.sort(dim=-1, descending=True).values
    over = ordered.cumsum(-1) - 1
    count = torch.arange(1, scores.shape[-1] + 1)
    kept = (ordered * count > over).sum(-1, keepdim=True)
    return torch.relu(scores - over.gather(-1, kept - 1) / kept)

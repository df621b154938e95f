"""A tower for rows of a table with missing cells, after FT-Transformer (Gorishniy et al., 2021, arXiv:2106.11959)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["PatientTower"]

SIZES = (2, 5)


class PatientTower(nn.Module):
    """Numbers (batch, numbers) and codes (batch, columns) to vectors (batch, dim) of length 1.

    Each cell is a token. The columns of `observed` are the numbers, then the categories; a number that was not observed
    has a token of its own, as has a missing category, whose code is the number of categories.
    """

    def __init__(self, numbers: int = 3, sizes: tuple[int, ...] = SIZES, dim: int = 32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(numbers, 32))
        self.bias = nn.Parameter(torch.randn(numbers, 32))
        self.unknown = nn.Parameter(torch.randn(numbers, 32))
        self.categories = nn.ModuleList([nn.Embedding(size + 1, 32) for size in sizes])
        self.whole = nn.Parameter(torch.randn(1, 32))
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.project = nn.Linear(32, dim)

    def forward(self, numbers: Tensor, codes: Tensor, observed: Tensor) -> Tensor:
        there = (observed[:, : numbers.shape[1]] != 0).unsqueeze(-1)
        measured = torch.where(there, numbers.unsqueeze(-1) * self.weight + self.bias, self.unknown)
        named = [table(codes[:, place]).unsqueeze(1) for place, table in enumerate(self.categories)]
        tokens = torch.cat([self.whole.expand(numbers.shape[0], 1, 32), measured, *named], dim=1)
        return functional.normalize(self.project(self.encode(tokens)[:, 0]), dim=-1)

"""An image and a row of a table in one vector, with a class and a value beside it, after TIP (arXiv:2407.07582)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Finding"]


class Finding(nn.Module):
    """Pixels uint8 (batch, 3, 32, 32) and numbers (batch, 3) with `observed` to vector, scores of classes and a volume.

    A cell that was not observed has a token of its own. The image's patches look at the table's cells.
    """

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.scale, self.shift = nn.Parameter(torch.randn(3, 32)), nn.Parameter(torch.randn(3, 32))
        self.missing = nn.Parameter(torch.randn(3, 32))
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.project, self.classify, self.measure = nn.Linear(32, dim), nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, pixels: Tensor, numbers: Tensor, observed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        patches = self.patches(pixels.float() / 127.5 - 1).flatten(2).transpose(1, 2)
        known = numbers.unsqueeze(-1) * self.scale + self.shift
        cells = torch.where(observed.unsqueeze(-1) != 0, known, self.missing)
        seen, _ = self.attend(patches, cells, cells, need_weights=False)
        fused = (patches + seen).mean(1)
        return functional.normalize(self.project(fused), dim=-1), self.classify(fused), self.measure(fused)

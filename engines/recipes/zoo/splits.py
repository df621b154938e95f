"""A tower of several outputs, after SimMMDG (Dong et al., 2023, arXiv:2310.19795)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["SplitTower"]


class SplitTower(nn.Module):
    """Spectra (batch, frames, bands) to three vectors: shared with other modalities, specific, and translated."""

    def __init__(self, bands: int = 16, shared: int = 32, specific: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(bands, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.shared, self.specific = nn.Linear(32, shared), nn.Linear(32, specific)
        self.translate = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, shared))

    def forward(self, spectra: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.ones_like(spectra[..., 0], dtype=torch.bool) if mask is None else mask != 0
        encoded = self.encode(self.embed(spectra), src_key_padding_mask=~own)
        weights = own.unsqueeze(-1).float()
        pooled = (encoded * weights).sum(1) / weights.sum(1)
        shared = functional.normalize(self.shared(pooled), dim=-1)
        return shared, self.specific(pooled), functional.normalize(self.translate(pooled), dim=-1)

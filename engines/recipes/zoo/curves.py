"""What a learning curve will be, as distributions, after LC-PFN (Adriaensen et al., 2023, arXiv:2310.20447)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CurveTower"]


class CurveTower(nn.Module):
    """Steps seen (batch, seen, 2: step, value) and steps asked for (batch, asked) to mean and log-variance of each.

    What is asked looks at what was seen, and at nothing else that is asked. `mask` (batch, seen) is 0 where padded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.asked = nn.Linear(2, 32), nn.Linear(1, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True)
        self.encode = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 2))

    def forward(self, seen: Tensor, asked: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        padded = torch.zeros_like(seen[..., 0], dtype=torch.bool) if mask is None else mask == 0
        context = self.encode(self.seen(seen), src_key_padding_mask=padded)
        queries = self.asked(asked.unsqueeze(-1))
        found, _ = self.attend(queries, context, context, key_padding_mask=padded, need_weights=False)
        mean, log_variance = self.head(queries + found).unbind(-1)
        return mean, log_variance

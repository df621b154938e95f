"""A text against a video's stored frame vectors, pooled by attention to the text, after X-Pool (arXiv:2203.15086)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["TextQuery", "XPool"]


class TextQuery(nn.Module):
    """Token ids (batch, length) to the query's vector (batch, 32): the mean of its tokens."""

    def __init__(self, words: int = 259) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 32)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        kept = torch.ones_like(ids) if mask is None else mask
        weights = (kept / kept.sum(1, keepdim=True)).unsqueeze(1)
        return (weights @ self.words(ids)).squeeze(1)


class XPool(nn.Module):
    """A query (batch, 32) and frames (batch, frames, 32) to their cosine (batch, 1) after the query chose frames.

    `frames_mask` (batch, frames) is 0 where padded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.norm = nn.LayerNorm(32)

    def forward(self, query: Tensor, frames: Tensor, frames_mask: Tensor | None = None) -> Tensor:
        hidden = None if frames_mask is None else frames_mask == 0
        pooled, _ = self.attend(query.unsqueeze(1), frames, frames, key_padding_mask=hidden, need_weights=False)
        pooled = functional.normalize(self.norm(pooled.squeeze(1)), dim=-1)
        return (functional.normalize(query, dim=-1) * pooled).sum(-1, keepdim=True)

"""Pooling, cutting and normalising in torch: what comes after the backbone, written so that it exports well."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embedge_export.recipe import PoolingMode

__all__ = ["Cut", "Fused", "Normalize", "Pool"]

Features = dict[str, Any]


class Pool(nn.Module):
    """Token vectors (batch, length, dim) to one vector a row, (batch, dim x modes), for rows padded on the right.

    Every mode but `max` is a weighted sum: a matmul of (batch, 1, length) weights with the tokens. That is one fast
    operation, and padding gets the weight 0.
    """

    def __init__(self, modes: tuple[PoolingMode, ...]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, features: Features) -> Features:
        """Add `sentence_embedding`."""
        tokens: Tensor = features["token_embeddings"]
        mask = features["attention_mask"].to(tokens.dtype)
        vectors = [self._pool(mode, tokens, mask) for mode in self.modes]
        features["sentence_embedding"] = vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)
        return features

    def _pool(self, mode: PoolingMode, tokens: Tensor, mask: Tensor) -> Tensor:
        if mode == "cls":
            return tokens[:, 0]
        if mode == "max":
            return tokens.masked_fill(mask.unsqueeze(-1) == 0, torch.finfo(tokens.dtype).min).amax(dim=1)
        return torch.matmul(_weights(mode, mask).unsqueeze(1), tokens).squeeze(1)


def _weights(mode: PoolingMode, mask: Tensor) -> Tensor:
    """Return each token's share of the pooled vector, (batch, length)."""
    count = mask.sum(dim=1, keepdim=True).clamp(min=1)
    if mode == "mean":
        return mask / count
    if mode == "mean_sqrt_len":
        return mask / count.sqrt()
    place = mask.cumsum(dim=1)
    if mode == "lasttoken":
        return mask * (place == count).to(mask.dtype)
    weighted = mask * place
    return weighted / weighted.sum(dim=1, keepdim=True).clamp(min=1)


class Normalize(nn.Module):
    """Scales vectors to length 1."""

    def forward(self, features: Features) -> Features:
        """Scale `sentence_embedding`."""
        vectors: Tensor = features["sentence_embedding"]
        features["sentence_embedding"] = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return features


class Cut(nn.Module):
    """Keeps the first `dim` numbers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, features: Features) -> Features:
        """Cut `sentence_embedding`."""
        features["sentence_embedding"] = features["sentence_embedding"][:, : self.dim]
        return features


class Fused(nn.Module):
    """A backbone and all that follows it, as one module: (ids, mask[, types]) to (batch, dim).

    Where the types are always zero, one zero is handed in for all tokens: it broadcasts, and folds to a constant.
    """

    def __init__(self, backbone: nn.Module, heads: list[nn.Module], *, zero_types: bool) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleList(heads)
        self.zero_types = zero_types

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return the vectors (batch, dim) of int64 inputs (batch, length)."""
        extra: dict[str, Tensor] = {}
        if token_type_ids is not None:
            extra["token_type_ids"] = token_type_ids
        elif self.zero_types:
            extra["token_type_ids"] = torch.zeros((1, 1), dtype=torch.long)
        tokens = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **extra)[0]
        features: Features = {"token_embeddings": tokens, "attention_mask": attention_mask}
        for head in self.heads:
            features = head(features)
        vectors: Tensor = features["sentence_embedding"]
        return vectors

    def described(self) -> list[list[Any]]:
        """Return each head's type and the settings that its tensors do not show."""
        return [_describe(head) for head in self.heads]


def _describe(head: Any) -> list[Any]:
    settings = [head.modes] if isinstance(head, Pool) else [head.dim] if isinstance(head, Cut) else []
    if type(head).__name__ == "Dense":
        settings = [type(head.activation_function).__name__, head.use_residual]
    return [type(head).__name__, *settings]

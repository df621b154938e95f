"""Heads after a backbone, written to export well: pooling, sparse weights, normalization."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from embedge_export.recipe import PoolingMode

__all__ = ["Cut", "Features", "Keep", "Lookup", "Normalize", "Pooling", "Presence", "Splade", "describe", "unit"]

Features = dict[str, Any]
"""As in sentence-transformers: `input_ids`, `attention_mask` and `token_embeddings` in, `sentence_embedding` out."""


class Pooling(nn.Module):
    """Token vectors (batch, length, dim) to one vector a row, (batch, dim x modes), for rows padded on the right.

    Every mode except `max` is a weighted sum: one fast matmul of (batch, 1, length) weights with the tokens. Padding
    has weight 0.
    """

    def __init__(self, modes: tuple[PoolingMode, ...]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, features: Features) -> Features:
        """Add `sentence_embedding` (batch, dim)."""
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
    """Return each token's share (batch, length) of the pooled vector."""
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


class Splade(nn.Module):
    """Scores of words at every token (batch, length, words) to a weight per word (batch, words).

    A weight is the largest, or the sum, of log(1 + relu(score)) (Formal et al., 2021, arXiv:2107.05720 and 2109.10086);
    `twice` takes the logarithm a second time (Shen et al., 2025, arXiv:2504.14839). The logarithm
    is monotonic, so the maximum comes first, and one logarithm per word is enough.
    """

    def __init__(self, strategy: str, *, twice: bool) -> None:
        super().__init__()
        self.strategy, self.twice = strategy, twice

    def forward(self, features: Features) -> Features:
        """Add `sentence_embedding` (batch, dim)."""
        scores: Tensor = features["token_embeddings"]
        mask: Tensor = features["attention_mask"]
        if self.strategy == "max":
            weights = self._grow(scores.masked_fill(mask.unsqueeze(-1) == 0, 0).amax(dim=1))
        else:
            weights = torch.matmul(mask.to(scores.dtype).unsqueeze(1), self._grow(scores)).squeeze(1)
        features["sentence_embedding"] = weights
        return features

    def _grow(self, scores: Tensor) -> Tensor:
        weights = scores.relu().log1p()
        return weights.log1p() if self.twice else weights


class Presence(nn.Module):
    """Token ids to a weight per word (batch, words): its table weight if the text has it, else 0."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)

    def forward(self, features: Features) -> Features:
        """Add `sentence_embedding` (batch, dim)."""
        ids, mask = features["input_ids"], features["attention_mask"].to(self.weight.dtype)
        # amax: padding never hides a word of the same id.
        there = torch.zeros(ids.shape[0], len(self.weight)).scatter_reduce(1, ids, mask, "amax")
        features["sentence_embedding"] = there * self.weight
        return features


class Lookup(nn.Module):
    """Token ids to context-free vectors (batch, length, dim)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)

    def forward(self, features: Features) -> Features:
        """Add `token_embeddings` (batch, length, dim)."""
        features["token_embeddings"] = nn.functional.embedding(features["input_ids"], self.weight)
        return features


class Keep(nn.Module):
    """The mask (batch, length) of kept vectors: those of listed words, without padding.

    Spaces do not depend on it, so its table is not part of the state.

    Args:
        name: Name of the feature.
        kept: Mask (vocabulary,) of kept token ids; None keeps all.
        padded: Keep padding as well.
    """

    def __init__(self, name: str, kept: Tensor | None, *, padded: bool = False) -> None:
        super().__init__()
        self.name, self.padded = name, padded
        self.kept: Tensor | None
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, features: Features) -> Features:
        """Add the feature `name` (batch, length)."""
        mask = features["attention_mask"] != 0
        kept = mask if self.kept is None else self.kept[features["input_ids"]]
        features[self.name] = kept if self.padded or self.kept is None else kept & mask
        return features


class Normalize(nn.Module):
    """Scales vectors to length 1."""

    def __init__(self, feature: str = "sentence_embedding") -> None:
        super().__init__()
        self.feature = feature

    def forward(self, features: Features) -> Features:
        """Scale the feature."""
        features[self.feature] = unit(features[self.feature])
        return features


class Cut(nn.Module):
    """Truncates vectors to `dim` numbers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, features: Features) -> Features:
        """Truncate `sentence_embedding`."""
        features["sentence_embedding"] = features["sentence_embedding"][:, : self.dim]
        return features


def unit(vectors: Tensor) -> Tensor:
    """Return vectors (..., dim) scaled to length 1; zeros stay zeros."""
    lengths: Tensor = vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
    return vectors / lengths


def describe(head: Any) -> list[Any]:
    """Return a head's type and settings; tensors are hashed apart."""
    name = type(head).__name__
    if isinstance(head, Pooling):
        return [name, head.modes]
    if isinstance(head, Cut):
        return [name, head.dim]
    if isinstance(head, Splade):
        return [name, head.strategy, head.twice]
    return [name, type(head.activation_function).__name__, head.use_residual] if name == "Dense" else [name]

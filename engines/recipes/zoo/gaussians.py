"""Towers that give a distribution an item, after PCME (Chun et al., 2021, arXiv:2101.05068), over a small CLIP."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

__all__ = ["GaussianHead", "ImageGaussian", "TextGaussian"]


class GaussianHead(nn.Module):
    """A vector to the mean and the log-variance of a normal distribution, each (batch, dim)."""

    def __init__(self, width: int, dim: int = 16) -> None:
        super().__init__()
        self.mean = nn.Linear(width, dim)
        self.log_variance = nn.Linear(width, dim)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(pooled), self.log_variance(pooled)


class ImageGaussian(nn.Module):
    """Pixels uint8 (batch, 3, 32, 32) to mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        config = CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=32,
            patch_size=8,
        )
        self.vision = CLIPVisionModel(config)
        self.head = GaussianHead(32)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(self.vision(pixel_values=pixels.float() / 127.5 - 1).pooler_output)


class TextGaussian(nn.Module):
    """Token ids and mask (batch, length) to mean and log-variance. A text is encoded up to its last own token."""

    def __init__(self, vocabulary: int = 259) -> None:
        super().__init__()
        config = CLIPTextConfig(
            vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, bos_token_id=1, eos_token_id=2,
        )  # fmt: skip
        self.text = CLIPTextModel(config)
        self.head = GaussianHead(32)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mask = torch.ones_like(ids) if mask is None else mask
        states = self.text(input_ids=ids, attention_mask=mask).last_hidden_state
        last = (mask.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, states.shape[-1])
        return self.head(states.gather(1, last).squeeze(1))

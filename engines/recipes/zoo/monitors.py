"""A tower for series of a fixed rate with gaps, over a small PatchTST (Nie et al., 2023, arXiv:2211.14730)."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PatchTSTConfig, PatchTSTForClassification

__all__ = ["MonitorTower"]


class MonitorTower(nn.Module):
    """Values (batch, 64, 3), 1 in `observed` where there is one, to a vector (batch, 32) and scores (batch, 4)."""

    def __init__(self) -> None:
        super().__init__()
        config = PatchTSTConfig(
            num_input_channels=3, context_length=64, patch_length=8, patch_stride=8, d_model=32, ffn_dim=64,
            num_hidden_layers=2, num_attention_heads=4, num_targets=4, use_cls_token=False, pooling_type="mean",
        )  # fmt: skip
        self.whole = PatchTSTForClassification(config)

    def forward(self, values: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        states = self.whole.model(past_values=values, past_observed_mask=observed != 0).last_hidden_state
        pooled = states.mean(2)  # over the patches; the head takes each channel's
        return pooled.mean(1), self.whole.head(states)

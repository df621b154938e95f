"""Three parts of which any may be missing, after 3MT (cascaded cross-attention with modality dropout)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Cascade"]


class Cascade(nn.Module):
    """Sound (batch, time, 8), frames (batch, frames, 6), a profile (batch, 4) to a vector and scores of five classes.

    A query looks at each modality in turn, and stays as it was where that one is missing: its presence (batch,) is 0.
    Masks are 0 where padded.
    """

    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.embed = nn.ModuleList([nn.Linear(size, 32) for size in (8, 6, 4)])
        self.attend = nn.ModuleList([nn.MultiheadAttention(32, 4, batch_first=True) for _ in range(3)])
        self.norm = nn.ModuleList([nn.LayerNorm(32) for _ in range(3)])
        self.query = nn.Parameter(torch.randn(1, 1, 32))
        self.project = nn.Linear(32, dim)
        self.classify = nn.Linear(dim, 5)

    def forward(
        self,
        sound: Tensor,
        sound_mask: Tensor,
        frames: Tensor,
        frames_mask: Tensor,
        profile: Tensor,
        has_sound: Tensor,
        has_frames: Tensor,
        has_profile: Tensor,
    ) -> tuple[Tensor, Tensor]:
        state = self.query.expand(profile.shape[0], 1, 32)
        masks = (sound_mask, frames_mask, torch.ones_like(profile[:, :1]))
        there = (has_sound, has_frames, has_profile)
        for at, array in enumerate((sound, frames, profile.unsqueeze(1))):
            tokens = self.embed[at](array)
            present = there[at].view(-1, 1, 1) != 0
            hidden = (masks[at] == 0) & present.squeeze(-1)  # nothing is hidden where all is padding: no row of NaN
            seen, _ = self.attend[at](state, tokens, tokens, key_padding_mask=hidden, need_weights=False)
            state = torch.where(present, self.norm[at](state + seen), state)
        vector = functional.normalize(self.project(state.squeeze(1)), dim=-1)
        return vector, self.classify(vector)

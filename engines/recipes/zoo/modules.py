"""A state that modules pass on, one a modality, with scores after each, after MultiModN (arXiv:2309.14118)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Decoder", "Notes", "Start", "Vitals"]


class Start(nn.Module):
    """The state (1, 16) that every patient begins with."""

    def __init__(self) -> None:
        super().__init__()
        self.state = nn.Parameter(torch.randn(1, 16))

    def forward(self) -> Tensor:
        return self.state * 1


class Vitals(nn.Module):
    """A state (batch, 16) and vitals (batch, 6) to the next state."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(22, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, vitals: Tensor, state: Tensor) -> Tensor:
        return self.mix(torch.cat([vitals, state], dim=-1))


class Notes(nn.Module):
    """A state (batch, 16) and embedded notes (batch, notes, 8) to the next state. `mask` is 0 where padded."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(8, 16)
        self.mix = nn.Linear(32, 16)

    def forward(self, notes: Tensor, state: Tensor, mask: Tensor | None = None) -> Tensor:
        read = torch.relu(self.read(notes))
        if mask is not None:
            read = read * mask.unsqueeze(-1)
        return torch.tanh(self.mix(torch.cat([read.sum(1), state], dim=-1)))


class Decoder(nn.Module):
    """A state (batch, 16) to scores (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(16, 3)

    def forward(self, state: Tensor) -> Tensor:
        return self.score(state)

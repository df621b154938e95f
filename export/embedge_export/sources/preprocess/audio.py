"""What feature extractors of audio compute, as modules in front of the model: the graph takes samples.

Every step before the magnitude is linear (framing, mean removal, pre-emphasis, window, Fourier transform), so one
matrix does it all, and the magnitude is a square after it: two products of matrices, which every backend runs fast and
no backend lacks. Only the frequencies that a filter lets through are computed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AstFront", "ClapFront", "MelPower", "RawFront", "UnitVariance", "Unscaled", "WhisperFront"]

FilterBank = NDArray[np.float64]

_POWER_FLOOR = 1e-10
# What transformers and torchaudio take for the smallest power in Kaldi's features: float32's epsilon.
_KALDI_FLOOR = 1.192092955078125e-07
_VARIANCE_FLOOR = 1e-7


class MelPower(nn.Module):
    """Samples (batch, n) to power in bands, float32 (batch, frames, bands).

    window: (size,). filters: (fft // 2 + 1, bands). center: frames lie around their place, over mirrored ends. drop: so
    many frames at the end are left out.
    """

    basis: Tensor
    filters: Tensor

    def __init__(
        self,
        window: FilterBank,
        filters: FilterBank,
        *,
        hop: int,
        center: bool = True,
        drop: int = 0,
        remove_mean: bool = False,
        preemphasis: float = 0.0,
    ) -> None:
        super().__init__()
        self.size, self.hop, self.drop = len(window), hop, drop
        self.edge = self.size // 2 if center else 0
        heard = np.flatnonzero(filters.any(axis=1))
        basis = window[:, None] * _fourier(self.size, 2 * (len(filters) - 1), heard)
        basis = _preemphasis(self.size, preemphasis).T @ basis
        if remove_mean:
            basis -= basis.mean(axis=0)
        self.register_buffer("basis", torch.from_numpy(basis.astype(np.float32)))
        both = np.concatenate([filters[heard]] * 2)  # of the real and of the imaginary part
        self.register_buffer("filters", torch.from_numpy(both.astype(np.float32)))

    def forward(self, samples: Tensor) -> Tensor:
        """Return the power in each band."""
        if self.edge:
            samples = functional.pad(samples[:, None], (self.edge, self.edge), mode="reflect")[:, 0]
        count = (samples.shape[1] - self.size) // self.hop + 1 - self.drop
        return (self._framed(samples, count) @ self.basis).square() @ self.filters

    def _framed(self, samples: Tensor, count: int) -> Tensor:
        """Return frames (batch, count, size): hops side by side, which costs a copy and no gathering."""
        hops = -(-self.size // self.hop)
        whole = (count + hops - 1) * self.hop
        samples = functional.pad(samples, (0, max(0, whole - samples.shape[1])))[:, :whole]
        blocks = samples.reshape(samples.shape[0], count + hops - 1, self.hop)
        return torch.cat([blocks[:, place : place + count] for place in range(hops)], dim=2)[..., : self.size]


class WhisperFront(nn.Module):
    """Samples (batch, n) to log-mel features (batch, bands, frames), as WhisperFeatureExtractor's."""

    def __init__(self, power: MelPower) -> None:
        super().__init__()
        self.power = power

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features: within eight decades of the clip's loudest, moved and scaled to about [-1, 1]."""
        decades = self.power(samples).clamp(min=_POWER_FLOOR).log10()
        decades = torch.maximum(decades, decades.amax(dim=(1, 2), keepdim=True) - 8.0)
        return ((decades + 4.0) / 4.0).transpose(1, 2)


class ClapFront(nn.Module):
    """Samples (batch, n) to decibels (batch, 1, frames, bands), as ClapFeatureExtractor's without fusion."""

    def __init__(self, power: MelPower) -> None:
        super().__init__()
        self.power = power

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features."""
        power: Tensor = self.power(samples)
        return 10.0 * power.clamp(min=_POWER_FLOOR).log10()[:, None]


class AstFront(nn.Module):
    """Samples (batch, n) and their lengths (batch,) to log-mel features (batch, frames, bands).

    As ASTFeatureExtractor's. Frames that are not wholly in a clip's own samples are zero before mean and deviation.
    """

    def __init__(self, power: MelPower, *, mean: float, deviation: float) -> None:
        super().__init__()
        self.power, self.mean, self.deviation = power, mean, deviation

    def forward(self, samples: Tensor, samples_length: Tensor) -> Tensor:
        """Return the features."""
        logs = self.power(samples).clamp(min=_KALDI_FLOOR).log()
        ends = torch.arange(logs.shape[1], device=samples_length.device) * self.power.hop + self.power.size
        own = (ends <= samples_length[:, None])[..., None]
        return (torch.where(own, logs, 0.0) - self.mean) / self.deviation


class UnitVariance(nn.Module):
    """Samples (batch, n) and their mask (batch, n) to samples of mean 0 and variance 1.

    As Wav2Vec2FeatureExtractor's. What is padded stays 0 and does not count.
    """

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        """Return the scaled samples."""
        own = samples_mask.to(samples.dtype)
        count = own.sum(dim=1, keepdim=True)
        centred = (samples - (samples * own).sum(dim=1, keepdim=True) / count) * own
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred / (variance + _VARIANCE_FLOOR).sqrt()


class Unscaled(nn.Module):
    """Samples (batch, n) as they are, where Wav2Vec2FeatureExtractor does not normalize."""

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        """Return the samples; the mask is for the model."""
        return samples


class RawFront(nn.Module):
    """Samples (batch, n) as one channel (batch, 1, n), as EncodecFeatureExtractor gives them."""

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        """Return the channel; the mask is for the model."""
        return samples[:, None]


def _fourier(size: int, fft: int, bins: NDArray[np.int64]) -> FilterBank:
    """Return cosines and sines (size, 2 x bins)."""
    angles = 2 * np.pi / fft * np.outer(np.arange(size), bins)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def _preemphasis(size: int, share: float) -> FilterBank:
    """Return the matrix that takes from each sample a share of the one before, from the first of itself."""
    matrix = np.eye(size) - share * np.eye(size, k=-1)
    matrix[0, 0] = 1 - share
    return matrix

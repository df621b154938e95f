"""Audio feature extractors as torch modules before the model: the graph takes samples.

Every step before the magnitude is linear (framing, mean removal, pre-emphasis, window, Fourier transform), so one
matrix covers them all, followed by a square for the magnitude: two matrix products, fast on every backend. Only
frequencies with a nonzero filter weight are computed.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AstFeatures", "ClapFeatures", "MelPower", "RawChannel", "UnitVariance", "Unscaled", "WhisperFeatures"]

FilterBank = NDArray[np.float64]

_POWER_FLOOR = 1e-10
# The power floor of Kaldi features in transformers and torchaudio: float32's epsilon.
_KALDI_FLOOR = 1.192092955078125e-07
_VARIANCE_FLOOR = 1e-7


class MelPower(nn.Module):
    """Samples (batch, n) to power in bands, float32 (batch, frames, bands).

    Args:
        window: The window (size,).
        filters: The filter bank (fft // 2 + 1, bands).
        hop: Samples between frames.
        center: Center frames on their positions, with reflected ends.
        drop: Number of frames to drop at the end.
        remove_mean: Subtract each frame's mean.
        preemphasis: Coefficient of the pre-emphasis filter.
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
        used = np.flatnonzero(filters.any(axis=1))
        basis = window[:, None] * _fourier(self.size, 2 * (len(filters) - 1), used)
        basis = _preemphasis(self.size, preemphasis).T @ basis
        if remove_mean:
            basis -= basis.mean(axis=0)
        self.register_buffer("basis", torch.from_numpy(basis.astype(np.float32)))
        both = np.concatenate([filters[used]] * 2)  # for the real and the imaginary part
        self.register_buffer("filters", torch.from_numpy(both.astype(np.float32)))

    def forward(self, samples: Tensor) -> Tensor:
        """Return the power (batch, frames, bands)."""
        if self.edge:
            samples = functional.pad(samples[:, None], (self.edge, self.edge), mode="reflect")[:, 0]
        count = (samples.shape[1] - self.size) // self.hop + 1 - self.drop
        return (self._framed(samples, count) @ self.basis).square() @ self.filters

    def _framed(self, samples: Tensor, count: int) -> Tensor:
        """Return frames (batch, count, size) as concatenated hops: a copy instead of a gather."""
        hops = -(-self.size // self.hop)
        whole = (count + hops - 1) * self.hop
        samples = functional.pad(samples, (0, max(0, whole - samples.shape[1])))[:, :whole]
        blocks = samples.reshape(samples.shape[0], count + hops - 1, self.hop)
        return torch.cat([blocks[:, place : place + count] for place in range(hops)], dim=2)[..., : self.size]


class WhisperFeatures(nn.Module):
    """Samples (batch, n) to log-mel features (batch, bands, frames), as in WhisperFeatureExtractor."""

    def __init__(self, power: MelPower) -> None:
        super().__init__()
        self.power = power

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features (batch, bands, frames): within eight decades of the loudest, scaled to about [-1, 1]."""
        decades = self.power(samples).clamp(min=_POWER_FLOOR).log10()
        decades = torch.maximum(decades, decades.amax(dim=(1, 2), keepdim=True) - 8.0)
        return ((decades + 4.0) / 4.0).transpose(1, 2)


class ClapFeatures(nn.Module):
    """Samples (batch, n) to decibels (batch, 1, frames, bands), as in ClapFeatureExtractor without fusion."""

    def __init__(self, power: MelPower) -> None:
        super().__init__()
        self.power = power

    def forward(self, samples: Tensor) -> Tensor:
        """Return the features (batch, 1, frames, bands)."""
        power: Tensor = self.power(samples)
        return 10.0 * power.clamp(min=_POWER_FLOOR).log10()[:, None]


class AstFeatures(nn.Module):
    """Samples (batch, n) and their lengths (batch,) to log-mel features (batch, frames, bands).

    As in ASTFeatureExtractor. Frames beyond a clip's samples are zero before mean and deviation apply.
    """

    def __init__(self, power: MelPower, *, mean: float, deviation: float) -> None:
        super().__init__()
        self.power, self.mean, self.deviation = power, mean, deviation

    def forward(self, samples: Tensor, samples_length: Tensor) -> Tensor:
        """Return the features (batch, frames, bands)."""
        logs = self.power(samples).clamp(min=_KALDI_FLOOR).log()
        ends = torch.arange(logs.shape[1], device=samples_length.device) * self.power.hop + self.power.size
        own = (ends <= samples_length[:, None])[..., None]
        return (torch.where(own, logs, 0.0) - self.mean) / self.deviation


class UnitVariance(nn.Module):
    """Samples (batch, n) and their mask (batch, n) to samples of mean 0 and variance 1.

    As in Wav2Vec2FeatureExtractor. Padding stays 0 and does not count.
    """

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        """Return the scaled samples (batch, n)."""
        own = samples_mask.to(samples.dtype)
        count = own.sum(dim=1, keepdim=True)
        centred = (samples - (samples * own).sum(dim=1, keepdim=True) / count) * own
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred / (variance + _VARIANCE_FLOOR).sqrt()


class Unscaled(nn.Module):
    """Unchanged samples (batch, n), for a Wav2Vec2FeatureExtractor without normalization."""

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        """Return the samples (batch, n); the mask is for the model."""
        return samples


class RawChannel(nn.Module):
    """Samples (batch, n) as one channel (batch, 1, n), as in EncodecFeatureExtractor."""

    def forward(self, samples: Tensor, samples_mask: Tensor) -> Tensor:
        """Return the channel (batch, 1, n); the mask is for the model."""
        return samples[:, None]


def _fourier(size: int, fft: int, bins: NDArray[np.int64]) -> FilterBank:
    """Return cosines and sines (size, 2 x bins)."""
    angles = 2 * np.pi / fft * np.outer(np.arange(size), bins)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1)


def _preemphasis(size: int, share: float) -> FilterBank:
    """Return the matrix that subtracts a share of the previous sample; the first sample uses itself."""
    matrix = np.eye(size) - share * np.eye(size, k=-1)
    matrix[0, 0] = 1 - share
    return matrix

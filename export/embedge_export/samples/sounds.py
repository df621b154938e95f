"""Synthetic clips for the gate: varied in content, length, rate, channels and format."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["sounds"]

Wave = NDArray[np.float64]

_RATES = (16_000, 44_100, 8_000, 48_000, 22_050)
_FORMATS = ("WAV", "FLAC", "OGG")
_SECONDS = (0.5, 4.0)
# The first three formants of five vowels in Hz: Peterson and Barney (1952), men.
_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def sounds(count: int) -> list[bytes]:
    """Return different encoded clips of 0.5 to 4 seconds; the same samples every time.

    Tones, sweeps, bands of noise, clicks between silence, and vowels: WAV, FLAC and OGG, mono and stereo.
    """
    return [_clip(place) for place in range(count)]


def _clip(place: int) -> bytes:
    import soundfile

    draw = np.random.default_rng(place)
    rate, form = _RATES[(place + place // len(_MAKERS)) % len(_RATES)], _FORMATS[place % len(_FORMATS)]
    time = np.arange(int(draw.uniform(*_SECONDS) * rate)) / rate
    waves = [_MAKERS[place % len(_MAKERS)](draw, time), _MAKERS[draw.integers(len(_MAKERS))](draw, time)]
    mixed = np.stack([waves[0], 0.7 * waves[0] + 0.3 * waves[1]], axis=1) if draw.random() < 0.5 else waves[0]
    mixed *= draw.uniform(0.1, 0.9) / max(1e-9, np.abs(mixed).max())
    file = io.BytesIO()
    soundfile.write(file, mixed.astype(np.float32), rate, format=form)
    return file.getvalue()


def _tones(draw: np.random.Generator, time: Wave) -> Wave:
    """Return a fading chord."""
    base = 110 * 2 ** draw.uniform(0, 4)
    partials = [np.sin(2 * np.pi * base * factor * time) / factor for factor in (1, *draw.uniform(1, 3, 3))]
    fading: Wave = np.sum(partials, axis=0) * np.exp(-draw.uniform(0, 2) * time)
    return fading


def _sweep(draw: np.random.Generator, time: Wave) -> Wave:
    """Return a tone of rising or falling pitch."""
    first, last = draw.uniform(100, 3500, 2)
    sweep: Wave = np.sin(2 * np.pi * (first + (last - first) * time / (2 * time[-1])) * time)
    return sweep


def _noise(draw: np.random.Generator, time: Wave) -> Wave:
    """Return noise around one pitch, swelling and ebbing."""
    low = np.convolve(draw.standard_normal(len(time)), np.hanning(draw.integers(8, 64)), mode="same")
    swell = 1.1 + np.sin(2 * np.pi * draw.uniform(0.5, 8) * time)
    return low * np.cos(2 * np.pi * draw.uniform(200, 3000) * time) * swell


def _clicks(draw: np.random.Generator, time: Wave) -> Wave:
    """Return short rings with silence between them."""
    wave = np.zeros(len(time))
    wave[draw.integers(0, len(time), draw.integers(3, 12))] = draw.uniform(-1, 1)
    ring = np.exp(-time[:400] * draw.uniform(300, 2000)) * np.cos(2 * np.pi * draw.uniform(500, 3500) * time[:400])
    return np.convolve(wave, ring)[: len(time)]


def _vowels(draw: np.random.Generator, time: Wave) -> Wave:
    """Return a signal like speech: voice pulses through the formants of several vowels."""
    pitch = draw.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * draw.uniform(2, 5) * time))
    phase = 2 * np.pi * np.cumsum(pitch) * (time[1] - time[0])
    wave = np.zeros(len(time))
    order = draw.permutation(len(_VOWELS))
    for place, vowel in zip(np.array_split(np.arange(len(time)), len(order)), order, strict=True):
        for partial in range(1, 30):
            weight = sum(1 / (1 + ((partial * pitch[place] - peak) / 80) ** 2) for peak in _VOWELS[vowel])
            wave[place] += weight * np.sin(partial * phase[place])
    return wave


_MAKERS: tuple[Callable[[np.random.Generator, Wave], Wave], ...] = (_tones, _sweep, _noise, _clicks, _vowels)

"""Synthetic videos for the gate: moving patterns."""

from __future__ import annotations

import numpy as np

from embedge.content import Video

__all__ = ["films"]


def films(count: int) -> list[Video]:
    """Return videos of 4 to 40 frames, of different size, pattern and motion; the same every time."""
    return [_film(place) for place in range(count)]


def _film(place: int) -> Video:
    draw = np.random.default_rng(place)
    frames, height, width = draw.integers((4, 48, 48), (41, 97, 129))
    rate = float(draw.choice((5, 12, 24)))
    time = np.arange(frames)[:, None, None, None] / rate
    down, right = np.arange(height)[:, None, None] / height, np.arange(width)[None, :, None] / width
    # Each color channel is a plane wave with its own direction.
    directions, speed, shift = draw.uniform(-6, 6, (2, 3)), draw.uniform(-4, 4, 3), draw.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * (directions[0] * down + directions[1] * right)[None] + speed * 2 * np.pi * time + shift)
    noise = draw.normal(0, 8, waves.shape)
    return Video(np.clip(128 + 100 * waves + noise, 0, 255).astype(np.uint8), rate)

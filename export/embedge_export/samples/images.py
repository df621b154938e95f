"""Synthetic images for the gate: varied in content, size, mode and format."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["images"]

Canvas = NDArray[np.float64]

_FORMATS: tuple[tuple[str, str], ...] = (
    ("JPEG", "RGB"),
    ("PNG", "RGB"),
    ("JPEG", "L"),
    ("PNG", "P"),
    ("WEBP", "RGB"),
    ("PNG", "L"),
)
_EDGES = (48, 641)


def images(count: int) -> list[bytes]:
    """Return different encoded images, 48 to 640 pixels wide and high; the same pixels every time.

    Gradients, shapes, strokes like handwriting, and textures: JPEG, PNG and WebP; color, gray and palette. Pixels are
    opaque, since processors differ on transparency.
    """
    return [_image(place) for place in range(count)]


def _image(place: int) -> bytes:
    from PIL import Image

    draw = np.random.default_rng(place)
    width, height = (int(edge) for edge in draw.integers(*_EDGES, 2))
    form, mode = _FORMATS[(place + place // len(_MAKERS)) % len(_FORMATS)]
    canvas = _MAKERS[place % len(_MAKERS)](draw, height, width)
    image = Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))
    file = io.BytesIO()
    (image.quantize(128) if mode == "P" else image.convert(mode)).save(file, form)
    return file.getvalue()


def _colours(draw: np.random.Generator, count: int) -> Canvas:
    return draw.uniform(0, 256, (count, 3))


def _places(height: int, width: int) -> Canvas:
    """Return each pixel's position, down and across, from 0 to 1: (height, width, 2)."""
    return np.stack(np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij"), axis=2)


def _gradient(draw: np.random.Generator, height: int, width: int) -> Canvas:
    """Draw three colors, each strongest at its own position."""
    apart = np.linalg.norm(_places(height, width)[:, :, None] - draw.uniform(0, 1, (3, 2)), axis=3)
    share = np.exp(-3 * apart)
    return np.asarray(share @ _colours(draw, 3) / share.sum(axis=2, keepdims=True))


def _shapes(draw: np.random.Generator, height: int, width: int) -> Canvas:
    """Draw overlapping discs and boxes of one color each."""
    canvas, places = np.ones((height, width, 3)) * _colours(draw, 1), _places(height, width)
    for number, colour in enumerate(_colours(draw, int(draw.integers(2, 9)))):
        away = np.abs(places - draw.uniform(0, 1, 2)) / draw.uniform(0.05, 0.4, 2)
        canvas[(away**2).sum(axis=2) < 1 if number % 2 else away.max(axis=2) < 1] = colour
    return canvas


def _strokes(draw: np.random.Generator, height: int, width: int) -> Canvas:
    """Draw lines of short upright strokes with gaps between words, dark on light."""
    paper, ink = draw.uniform(200, 256, 3), draw.uniform(0, 90, 3)
    line, letter = int(draw.integers(10, 30)), int(draw.integers(3, 8))
    written = draw.random((height // line + 1, width // letter + 1)) < draw.uniform(0.4, 0.8)
    down, right = np.arange(height)[:, None], np.arange(width)[None, :]
    heights = draw.uniform(0.3, 0.8, written.shape)[down // line, right // letter]
    inside = written[down // line, right // letter] & (right % letter < letter // 2 + 1)
    return np.where((inside & (down % line > line * (1 - heights)))[:, :, None], ink, paper)


def _texture(draw: np.random.Generator, height: int, width: int) -> Canvas:
    """Draw noise of several scales over waves, in two colors."""
    places, (low, high) = _places(height, width), _colours(draw, 2)
    value = np.sin(places @ draw.uniform(-60, 60, 2) + draw.uniform(0, 6))
    for scale in (40, 12, 3):
        grain = draw.normal(0, 0.6, (height // scale + 1, width // scale + 1))
        value += grain.repeat(scale, axis=0).repeat(scale, axis=1)[:height, :width]
    share = 1 / (1 + np.exp(-value))[:, :, None]
    return np.asarray(low + (high - low) * share)


_MAKERS: tuple[Callable[[np.random.Generator, int, int], Canvas], ...] = (_gradient, _shapes, _strokes, _texture)

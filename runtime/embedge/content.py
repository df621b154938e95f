"""What a part of an item can be, where a plain value does not say enough. Holds what it is given; decodes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Audio", "Content", "Image", "Text", "Vector", "Video"]


@dataclass(frozen=True, slots=True)
class Text:
    """A text with what belongs to it: the other text of a pair, an instruction of its own, its language."""

    text: str
    pair: str | None = None
    instruction: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image: the bytes of a file (JPEG, PNG, WebP, BMP, GIF, …), its path, or pixels uint8 (height, width[, 3])."""

    data: bytes | Path | NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """A clip: the bytes of a file (WAV, FLAC, OGG, MP3), its path, or float samples (n[, channels]) at `rate` Hz."""

    data: bytes | Path | NDArray[np.floating[Any]]
    rate: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """A video: the bytes of a file (MP4, WebM), its path, or uint8 frames (n, height, width, 3) at `rate` a second."""

    data: bytes | Path | NDArray[np.uint8]
    rate: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """A precomputed vector (dim,), and the id of its space where it is known."""

    values: NDArray[np.floating[Any]]
    space: str | None = None


Cells = Mapping[str, float | str | None]
Content = str | Text | Image | Audio | Video | Vector | NDArray[np.generic] | Cells | bytes | Path | list[Any]
"""One part. An array is a tensor, a mapping a row of a table; bytes and paths are what the tower's part takes.

A list is a set, of pieces that are items of their own, or the numbers of an array."""

"""Contents of an item's parts, for values whose type alone isn't enough. They hold data and decode nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import numpy as np
from numpy.typing import NDArray

from embedge.errors import InvalidInput

__all__ = ["Audio", "Content", "Image", "PillowImage", "Text", "Vector", "Video", "is_pillow", "modality", "of_path"]


class PillowImage(Protocol):
    """A `PIL.Image.Image`, described without importing Pillow."""

    @property
    def mode(self) -> str:
        """The type of its pixels, such as `RGB`."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string with details.

    Attributes:
        text: The string.
        pair: The second string of a pair, for models that take pairs.
        instruction: An instruction for this item, for models that take instructions.
        language: The language's name, for models that take one.
    """

    text: str
    pair: str | None = None
    instruction: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image.

    Attributes:
        data: The bytes of a file (JPEG, PNG, WebP, BMP, GIF or TIFF), its path, pixels uint8 `(height, width[, 3])`,
            or a Pillow image.
    """

    data: bytes | Path | NDArray[np.uint8] | PillowImage


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """An audio clip.

    Attributes:
        data: The bytes of a file (WAV, FLAC, OGG or MP3), its path, or float samples `(n[, channels])`.
        rate: Sampling rate of an array, in Hz.
    """

    data: bytes | Path | NDArray[np.floating[Any]]
    rate: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Video:
    """A video.

    Attributes:
        data: The bytes of a file (MP4 or WebM), its path, or frames uint8 `(n, height, width, 3)`.
        rate: Frames a second, of an array.
    """

    data: bytes | Path | NDArray[np.uint8]
    rate: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Vector:
    """A precomputed vector.

    Attributes:
        values: `(dim,)` floats.
        space: The id of its space, checked if given.
    """

    values: NDArray[np.floating[Any]]
    space: str | None = None


Cells = Mapping[str, float | str | None]
Content = (
    str | Text | Image | PillowImage | Audio | Video | Vector | NDArray[np.generic] | Cells | bytes | Path | list[Any]
)
"""The content of one part.

An array is a tensor, and a mapping a row of a table. A path is an image, audio or video by its suffix. Bytes, and paths
with other suffixes, are whatever the tower's only part takes. A list is a set, whose pieces are items, or the numbers
of an array. A Pillow image is an image.
"""

_SUFFIXES: dict[str, tuple[type[Image] | type[Audio] | type[Video], str]] = {
    "image": (Image, ".avif .bmp .gif .jpeg .jpg .png .tif .tiff .webp"),
    "audio": (Audio, ".aif .aiff .flac .m4a .mp3 .oga .ogg .opus .wav"),
    "video": (Video, ".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm"),
}
_BY_SUFFIX = {suffix: name for name, (_, suffixes) in _SUFFIXES.items() for suffix in suffixes.split()}
_TEXT_SUFFIXES = frozenset(".csv .html .json .jsonl .md .rst .tsv .txt .xml .yaml .yml".split())


def modality(value: object) -> str:
    """Return the modality of a path, by its suffix, or of a Pillow image; an empty string for anything else."""
    if isinstance(value, Path):
        return _BY_SUFFIX.get(value.suffix.lower(), "")
    return "image" if is_pillow(value) else ""


def of_path(path: Path) -> Image | Audio | Video | Path:
    """Return a path as the content that its suffix stands for; an unknown suffix leaves it as it is.

    Raises:
        InvalidInput: The file holds text.
    """
    suffix = path.suffix.lower()
    if suffix in _TEXT_SUFFIXES:
        raise InvalidInput(f"{path} is a text file; give its text: path.read_text()")
    return _SUFFIXES[_BY_SUFFIX[suffix]][0](path) if suffix in _BY_SUFFIX else path


def is_pillow(value: object) -> TypeGuard[PillowImage]:
    """Return whether a value is a Pillow image. Doesn't import Pillow: whoever made the image has."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(value, pillow.Image)

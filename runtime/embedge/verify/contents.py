"""Contents of every modality as JSON and plain arrays, and back: how golden items travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from embedge.arrays import Array
from embedge.content import Audio, Image, PillowImage, Text, Vector, Video

__all__ = ["PackedContent", "label", "pack", "size", "unpack"]


class PackedContent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One content. `array` names the array that holds it: bytes of a file are (n,) uint8, all else is as it came.

    pieces: those of a set, each a content.
    """

    kind: Literal["text", "image", "audio", "video", "vector", "tensor", "row", "set"]
    array: str | None = None
    text: str = ""
    pair: str | None = None
    instruction: str | None = None
    language: str | None = None
    rate: float | None = None
    space: str | None = None
    row: dict[str, float | str | None] = {}
    pieces: tuple[PackedContent, ...] = ()


def pack(content: Any, keep: Callable[[Array], str]) -> PackedContent:
    """Return a content as JSON values; `keep` takes an array and returns its name. Raises TypeError."""
    if isinstance(content, str):
        return PackedContent(kind="text", text=content)
    if isinstance(content, Text):
        return PackedContent(
            kind="text",
            text=content.text,
            pair=content.pair,
            instruction=content.instruction,
            language=content.language,
        )
    if isinstance(content, Image):
        return PackedContent(kind="image", array=keep(_data(content.data)))
    if isinstance(content, Audio):
        return PackedContent(kind="audio", array=keep(_data(content.data)), rate=content.rate)
    if isinstance(content, Video):
        return PackedContent(kind="video", array=keep(_data(content.data)), rate=content.rate)
    if isinstance(content, Vector):
        return PackedContent(kind="vector", array=keep(content.values), space=content.space)
    if isinstance(content, np.ndarray):
        return PackedContent(kind="tensor", array=keep(content))
    if isinstance(content, Mapping):
        return PackedContent(kind="row", row=dict(content))
    if isinstance(content, (list, tuple)):
        return PackedContent(kind="set", pieces=tuple(pack(piece, keep) for piece in content))
    raise TypeError(f"{type(content).__name__} is no content of an item")


def unpack(packed: PackedContent, arrays: Mapping[str, Array]) -> Any:
    """Return the content. Raises KeyError for an array that is not there."""
    if packed.kind == "text":
        rest = (packed.pair, packed.instruction, packed.language)
        return packed.text if rest == (None, None, None) else Text(packed.text, *rest)
    if packed.kind == "row":
        return packed.row
    if packed.kind == "set":
        return [unpack(piece, arrays) for piece in packed.pieces]
    array = arrays[str(packed.array)]
    if packed.kind == "tensor":
        return array
    if packed.kind == "vector":
        return Vector(array, packed.space)
    data: Any = array.tobytes() if array.ndim == 1 and array.dtype == np.uint8 else array
    if packed.kind == "image":
        return Image(data)
    if packed.kind == "audio":
        return Audio(data, None if packed.rate is None else round(packed.rate))
    return Video(data, packed.rate)


def size(content: Any) -> int:
    """Return about how many bytes a content takes."""
    if isinstance(content, (list, tuple)):
        return sum(map(size, content))
    kept: list[Array] = []

    def keep(array: Array) -> str:
        kept.append(array)
        return ""

    packed = pack(content, keep)
    return len(packed.text) + sum(array.nbytes for array in kept)


def label(content: Any) -> str:
    """Return a few words that tell one content from another."""
    if isinstance(content, (str, Text)):
        text = " ".join((content if isinstance(content, str) else content.text).split())
        return f"{text[:60]!r}{'…' if len(text) > 60 else ''}"
    if isinstance(content, (list, tuple)):
        return f"set of {len(content)}" + (f": {label(content[0])}, …" if content else "")
    if isinstance(content, Mapping):
        return ", ".join(f"{column}={value}" for column, value in content.items())[:60]
    if isinstance(content, np.ndarray):
        return f"tensor {' x '.join(map(str, content.shape))}"
    what, data = type(content).__name__.lower(), content.values if isinstance(content, Vector) else content.data
    if isinstance(data, np.ndarray):
        return f"{what} {' x '.join(map(str, data.shape))}"
    return f"{what} {data.name}" if isinstance(data, Path) else f"{what} of {len(data):,} bytes"


def _data(data: bytes | Path | Array | PillowImage) -> Array:
    if isinstance(data, Path):
        data = data.read_bytes()
    return np.frombuffer(data, np.uint8) if isinstance(data, bytes) else np.asarray(data)

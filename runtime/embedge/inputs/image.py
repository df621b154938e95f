"""Images to pixels, to the last bit as the models' own processors make them with Pillow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from embedge.batches.batch import Row
from embedge.bundle.part_specs import CenterCrop, ImagePrepare, ImageStep, Pad, Resize
from embedge.config import RuntimeConfig
from embedge.content import Image
from embedge.errors import EmbedgeError, InvalidInput
from embedge.inputs.media import bound, read, weigh
from embedge.inputs.picture import check_size, convert, decode, opened
from embedge.inputs.tiles import cut, target
from embedge.request import Request

__all__ = ["ImageInput", "Pixels"]

Pixels = NDArray[np.uint8]

_PROBE_EDGE = 32


class ImageInput:
    """Prepares the images of one part. Safe to call from several threads; Pillow works outside the interpreter lock."""

    def __init__(self, spec: ImagePrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        self.spec = spec
        self._max_bytes = config.max_media_bytes
        self._max_pixels = config.max_image_pixels

    def check(self, request: Request) -> None:
        """Accept every request: no option of a request is about images."""

    def prepare(self, contents: Sequence[object], request: Request) -> list[Row | EmbedgeError]:
        """Return each image's pixels, uint8 `(channels, height, width)` or tiles of it, or its error."""
        return [self._row(content) for content in contents]

    def probe(self) -> Pixels:
        """Return a grey square, uint8 `(height, width, 3)`."""
        return np.full((_PROBE_EDGE, _PROBE_EDGE, 3), 127, np.uint8)

    def size(self, row: Row) -> int:
        """Return how many tiles there are, or 1 where all images are of one size."""
        return 1 if self.spec.tiles is None else len(row[self.spec.inputs["pixels"]])

    def estimate(self, contents: Sequence[object]) -> int:
        """Return how many images there are, or how many tiles at most."""
        return len(contents) * (1 if self.spec.tiles is None else self.spec.tiles.most)

    def weight(self, content: object) -> int:
        """Return the bytes of a file or of pixels."""
        data = _unwrapped(content)
        return 3 * data.width * data.height if isinstance(data, Pillow.Image) else weigh(data)

    def pixels(self, image: Pillow.Image) -> Pixels:
        """Convert an upright image to uint8 `(channels, height, width)`.

        Raises:
            InvalidInput: the image can't be converted.
        """
        image = convert(image, self.spec.mode, self.spec.alpha)
        for step in self.spec.steps:
            image = self._step(image, step)
        if (tiles := self.spec.tiles) is not None and image.size != (size := target(image.size, tiles)):
            image = image.resize(size, Pillow.Resampling[tiles.resample.upper()])
        array = np.asarray(image)
        return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def _row(self, content: object) -> Row | EmbedgeError:
        try:
            made: dict[Any, NDArray[Any]] = {"pixels": self.pixels(self._open(_unwrapped(content)))}
            if self.spec.tiles is not None:
                made["pixels"], made["grid"] = cut(made["pixels"], self.spec.tiles)
            return {self.spec.inputs[role]: array for role, array in made.items() if role in self.spec.inputs}
        except InvalidInput as error:
            return error

    def _open(self, data: object) -> Pillow.Image:
        if isinstance(data, (bytes, Path)):
            return decode(read(data, self._max_bytes), max_pixels=self._max_pixels)
        if isinstance(data, np.ndarray):
            return self._from_array(data)
        if isinstance(data, Pillow.Image):
            return opened(data, max_pixels=self._max_pixels)
        raise InvalidInput(
            f"an image is needed here, not {type(data).__name__}; give the bytes of a file, a pathlib.Path to one, "
            "pixels uint8 (height, width[, 3]), or a Pillow image"
        )

    def _from_array(self, array: NDArray[Any]) -> Pillow.Image:
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)):
            raise InvalidInput(
                f"pixels are uint8 (height, width[, 3]), not {array.dtype} {array.shape}; "
                "scale them to 0..255 and put channels last"
            )
        if not array.size:
            raise InvalidInput(f"the image has no pixels: its shape is {array.shape}")
        bound(array, self._max_bytes)
        check_size((array.shape[1], array.shape[0]), self._max_pixels)
        return Pillow.fromarray(array[..., 0] if array.shape[2:] == (1,) else array)

    def _step(self, image: Pillow.Image, step: ImageStep) -> Pillow.Image:
        if isinstance(step, Resize):
            size = _target(image.size, step)
            if min(size) < 1 or size[0] * size[1] > max(self._max_pixels, step.width * step.height):
                raise InvalidInput(
                    f"an image of {image.width:,} x {image.height:,} pixels is too long and thin for this model: "
                    f"it would be scaled to {size[0]:,} x {size[1]:,}; crop it"
                )
            return image if size == image.size else image.resize(size, Pillow.Resampling[step.resample.upper()])
        left, top = _corner(image.size, step)
        if isinstance(step, CenterCrop):
            return image.crop((left, top, left + step.width, top + step.height))
        return _padded(image, step, left, top)


def _target(size: tuple[int, int], step: Resize) -> tuple[int, int]:
    """Return the (width, height) that a step scales to. Fractions are cut off, as transformers' processors do it."""
    width, height = size
    if step.fit == "exact":
        return step.width, step.height
    if step.fit == "shortest":
        longer = int(step.height * max(size) / min(size))
        return (step.height, longer) if width <= height else (longer, step.height)
    scale = min(step.height / height, step.width / width)
    return int(width * scale), int(height * scale)


def _corner(size: tuple[int, int], step: CenterCrop | Pad) -> tuple[int, int]:
    """Return where a step's canvas begins (left, top) in an image of (width, height); negative: outside of it."""
    if isinstance(step, Pad) and step.place == "top_left":
        return 0, 0
    return (size[0] - step.width) // 2, (size[1] - step.height) // 2


def _padded(image: Pillow.Image, step: Pad, left: int, top: int) -> Pillow.Image:
    if image.width > step.width or image.height > step.height:
        raise InvalidInput(
            f"the image has {image.width:,} x {image.height:,} pixels, this model takes up to "
            f"{step.width:,} x {step.height:,}; scale it down"
        )
    canvas = Pillow.new(image.mode, (step.width, step.height), (step.fill,) * len(image.getbands()))
    canvas.paste(image, (-left, -top))
    return canvas


def _unwrapped(content: object) -> object:
    return content.data if isinstance(content, Image) else content

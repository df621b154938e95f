"""Prepare specs of images and videos: pixels, and the steps that lead to them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from embedge.bundle.spec import Duration, Fill, Size, Strict

__all__ = [
    "AlphaMode",
    "CenterCrop",
    "ImageMode",
    "ImagePrepare",
    "ImageStep",
    "Pad",
    "ResampleFilter",
    "Resize",
    "Tiles",
    "VideoPrepare",
]

ResampleFilter = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
ImageMode = Literal["RGB", "L"]
AlphaMode = Literal["drop", "white"]


class Resize(Strict, frozen=True, kw_only=True, tag="resize", tag_field="step"):
    """Scale an image, with antialiasing, as Pillow does it.

    fit: `exact` to height x width; `shortest`: the shorter edge becomes `height` (and `width`, its equal), the ratio is
    kept; `inside`: as large as fits into height x width, the ratio is kept.
    """

    fit: Literal["exact", "shortest", "inside"] = "exact"
    height: Size
    width: Size
    resample: ResampleFilter = "bicubic"


class CenterCrop(Strict, frozen=True, kw_only=True, tag="center_crop", tag_field="step"):
    """Cut the middle out; an image that is smaller gets black borders first."""

    height: Size
    width: Size


class Pad(Strict, frozen=True, kw_only=True, tag="pad", tag_field="step"):
    """Put an image onto a canvas of height x width: in its middle, or at its top left."""

    height: Size
    width: Size
    fill: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0
    place: Literal["center", "top_left"] = "center"


ImageStep = Resize | CenterCrop | Pad


class Tiles(Strict, frozen=True, kw_only=True):
    """Scale an image near its own size and ratio, to a whole number of tiles, and cut it into them, row by row.

    A tile is `merge` x `merge` patches of `patch` x `patch` pixels, which the model merges to one place. The area goes
    up or down to min_pixels or max_pixels where it is outside of them (Qwen2-VL, Wang et al., 2024, arXiv:2409.12191).
    """

    patch: Size
    merge: Size
    min_pixels: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    max_pixels: Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
    resample: ResampleFilter = "bicubic"

    @property
    def edge(self) -> int:
        """Pixels along the edge of a tile."""
        return self.patch * self.merge

    @property
    def most(self) -> int:
        """Tiles that an image has at most."""
        return self.max_pixels // self.edge**2


class ImagePrepare(Strict, frozen=True, kw_only=True, tag="image", tag_field="modality"):
    """How an image becomes uint8 pixels (channels, height, width). Rescaling and normalisation are in the graph.

    The steps run in order and end at height x width. alpha: transparent pixels show the colour under the transparency
    (`drop`), or `white`. tiles: in place of steps, for images of many sizes, of which height x width is the largest
    square; pixels are then (tiles, merge * merge, channels, patch, patch), and grid (2,) counts tiles down and across.
    """

    carriers: ClassVar[tuple[str, ...]] = ("pixels",)

    inputs: dict[Literal["pixels", "mask", "grid"], str]
    mode: ImageMode = "RGB"
    alpha: AlphaMode = "drop"
    height: Size
    width: Size
    steps: tuple[ImageStep, ...] = ()
    tiles: Tiles | None = None

    def fills(self) -> dict[str, Fill]:
        """Return pixels (channels, height, width), or of tiles, mask made from them, and grid."""
        known = {
            "pixels": Fill() if self.tiles is None else Fill(ragged=True, most=self.tiles.most),
            "mask": Fill(ragged=True, mask_of=self.inputs.get("pixels")),
            "grid": Fill(),
        }
        return {name: known[role] for role, name in self.inputs.items()}


class VideoPrepare(Strict, frozen=True, kw_only=True, tag="video", tag_field="modality"):
    """How a video becomes uint8 frames (frames, channels, height, width), each prepared as an image.

    sampling: `uniform`, over the whole video; `center`, `frames` frames `stride` apart around its middle; `fps`, at
    `fps` frames a second from its begin, as many as there are up to `frames` (the first axis is then ragged).
    A video of fewer frames repeats its last, but for `fps`. max_seconds: longer ones are refused, or cut with
    `truncate`.
    """

    carriers: ClassVar[tuple[str, ...]] = ("frames",)

    inputs: dict[Literal["frames", "mask"], str]
    image: ImagePrepare
    frames: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    sampling: Literal["uniform", "center", "fps"] = "uniform"
    stride: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 1
    fps: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    max_seconds: Duration = 3600.0

    def fills(self) -> dict[str, Fill]:
        """Return frames (frames, channels, height, width), and mask made from it."""
        ragged = self.sampling == "fps"
        known = {
            "frames": Fill(ragged=ragged, most=self.frames),
            "mask": Fill(ragged=True, mask_of=self.inputs.get("frames")),
        }
        return {name: known[role] for role, name in self.inputs.items()}

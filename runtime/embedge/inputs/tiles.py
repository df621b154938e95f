"""Images of many sizes, cut into tiles: how large each becomes, and in which order its pixels come."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from embedge.bundle.part_specs import Tiles
from embedge.errors import InvalidInput

__all__ = ["cut", "target"]

# The original's limit of the longer edge over the shorter.
_RATIO = 200


def target(size: tuple[int, int], tiles: Tiles) -> tuple[int, int]:
    """Return the (width, height) that an image is scaled to, as transformers' `smart_resize` does it.

    Raises InvalidInput for images that are so long and thin that they would have more tiles than there may be.
    """
    found = _near(size, tiles)
    if max(size) > _RATIO * min(size) or found[0] * found[1] > tiles.most * tiles.edge**2:
        raise InvalidInput(
            f"an image of {size[0]:,} x {size[1]:,} pixels is too long and thin for this model: "
            f"it would be scaled to {found[0]:,} x {found[1]:,}; crop it"
        )
    return found


def cut(pixels: NDArray[np.uint8], tiles: Tiles) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Cut pixels `(channels, height, width)` into tiles.

    Returns:
        Tiles `(tiles, merge * merge, channels, patch, patch)` uint8, and the grid `(2,)` int64: tiles down and across.
    """
    down, across = (edge // tiles.edge for edge in pixels.shape[1:])
    shape = (len(pixels), down, tiles.merge, tiles.patch, across, tiles.merge, tiles.patch)
    ordered = pixels.reshape(shape).transpose(1, 4, 2, 5, 0, 3, 6)
    patches = ordered.reshape(down * across, tiles.merge**2, len(pixels), tiles.patch, tiles.patch)
    return patches, np.array([down, across], np.int64)


def _near(size: tuple[int, int], tiles: Tiles) -> tuple[int, int]:
    edge, area = tiles.edge, size[0] * size[1]
    width, height = (round(each / edge) * edge for each in size)
    if width * height > tiles.max_pixels:
        shrink = math.sqrt(area / tiles.max_pixels)
        width, height = (max(edge, math.floor(each / shrink / edge) * edge) for each in size)
    elif width * height < tiles.min_pixels:
        grow = math.sqrt(tiles.min_pixels / area)
        width, height = (math.ceil(each * grow / edge) * edge for each in size)
    return width, height

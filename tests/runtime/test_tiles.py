"""Images of many sizes: scaled to whole tiles and cut into them as the original's processor does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as some

from embedge import RuntimeConfig
from embedge.bundle.part_specs import ImagePrepare, Tiles
from embedge.commands.towers import _image
from embedge.errors import InvalidInput
from embedge.inputs.image import ImageInput
from embedge.inputs.tiles import target
from embedge.request import Request

TILES = Tiles(patch=4, merge=2, min_pixels=16**2, max_pixels=40**2)
SPEC = ImagePrepare(
    inputs={"pixels": "tiles", "mask": "mask", "grid": "grid"}, alpha="white", height=40, width=40, tiles=TILES
)
PART = ImageInput(SPEC, RuntimeConfig(), Path)


@pytest.fixture(scope="module")
def transformers() -> Any:
    """Return transformers, whose processor these tests compare with. The runtime does without it."""
    return pytest.importorskip("transformers", reason="transformers is not installed")


@pytest.fixture(scope="module")
def smart_resize(transformers: Any) -> Any:
    return importlib.import_module("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl").smart_resize


@given(some.integers(1, 3000), some.integers(1, 3000))
def test_sizes_are_the_originals(smart_resize: Any, width: int, height: int) -> None:
    assume(max(width, height) <= 200 * min(width, height))
    area = (TILES.min_pixels, TILES.max_pixels)
    down, right = smart_resize(height, width, TILES.edge, *area)
    assume(down * right <= TILES.max_pixels)
    assert target((width, height), TILES) == (right, down)


@pytest.mark.parametrize("size", [(40, 40), (8, 9), (24, 64), (90, 10), (301, 200)])
def test_tiles_are_the_originals_to_the_last_bit(transformers: Any, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    area = {"shortest_edge": TILES.min_pixels, "longest_edge": TILES.max_pixels}
    made = transformers.Qwen2VLImageProcessor
    processor = made(patch_size=4, merge_size=2, size=area, do_rescale=False, do_normalize=False)
    (row,) = PART.prepare([pixels], Request(items=()))
    assert not isinstance(row, Exception)
    theirs = processor(images=pixels, return_tensors="np")
    assert (row["grid"] * 2).tolist() == theirs["image_grid_thw"][0, 1:].tolist()
    frames = theirs["pixel_values"].reshape(-1, 4, 3, 2, 4, 4)
    np.testing.assert_array_equal(row["tiles"], frames[:, :, :, 0])
    np.testing.assert_array_equal(row["tiles"], frames[:, :, :, 1])
    assert PART.size(row) == len(row["tiles"]) == row["grid"].prod()


def test_an_image_that_needs_too_many_tiles_is_refused_alone() -> None:
    thin, good = np.zeros((4, 900, 3), np.uint8), np.zeros((30, 30, 3), np.uint8)
    first, second = PART.prepare([thin, good], Request(items=()))
    assert isinstance(first, InvalidInput)
    assert "too long and thin" in str(first)
    assert not isinstance(second, Exception)


def test_inspect_says_how_many_tiles_there_are() -> None:
    assert "up to 25 tiles of 8 x 8" in next(iter(_image(SPEC)))

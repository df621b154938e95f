"""Image processors, read: preparing and the front module together give the processor's own numbers."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image as Pillow
from transformers.image_utils import load_image
from transformers.video_utils import VideoMetadata, default_sample_indices_fn

from embedge import RuntimeConfig
from embedge.bundle.part_specs import CenterCrop, ImagePrepare, Resize, VideoPrepare
from embedge.content import Video
from embedge.inputs.image import ImageInput
from embedge.inputs.video import VideoInput, places
from embedge.request import Request
from embedge_export.errors import ExportError
from embedge_export.samples.films import films
from embedge_export.samples.images import images
from embedge_export.samples.videos import videos
from embedge_export.sources.preprocess.image import Normalizer, from_processor

REQUEST = Request(items=[])
SMALL: dict[str, dict[str, Any]] = {
    "CLIPImageProcessorPil": {"size": {"shortest_edge": 40}, "crop_size": 36},
    "SiglipImageProcessorPil": {"size": {"height": 32, "width": 48}},
    "ViTImageProcessorPil": {"size": {"height": 32, "width": 32}},
    "BitImageProcessorPil": {"size": {"shortest_edge": 32}, "crop_size": {"height": 40, "width": 24}},
    "EfficientNetImageProcessorPil": {"size": {"height": 33, "width": 31}},
    "ConvNextImageProcessorPil": {"size": {"shortest_edge": 32}},
    "BlipImageProcessorPil": {"size": {"height": 32, "width": 32}},
    "VideoMAEImageProcessorPil": {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
}
OTHER: list[tuple[str, dict[str, Any]]] = [
    ("CLIPImageProcessorPil", {"do_resize": False, "crop_size": 64}),
    ("CLIPImageProcessorPil", {"do_normalize": False, "size": {"shortest_edge": 30}, "crop_size": 30}),
    ("ViTImageProcessorPil", {"resample": Pillow.Resampling.LANCZOS, "do_rescale": False}),
    ("EfficientNetImageProcessorPil", {"rescale_offset": True, "include_top": False}),
    ("ConvNextImageProcessorPil", {"size": {"shortest_edge": 384}}),
    ("DeiTImageProcessorPil", {}),
]


@cache
def pictures() -> list[bytes]:
    return images(12)


def processor(name: str, **options: Any) -> Any:
    return getattr(transformers, name)(**options)


def pixels(spec: ImagePrepare, data: bytes) -> NDArray[Any]:
    (row,) = ImageInput(spec, RuntimeConfig(), Path).prepare([data], REQUEST)
    assert not isinstance(row, Exception), row
    return row["pixel_values"]


def theirs(original: Any, data: bytes, **options: Any) -> NDArray[Any]:
    found = original(load_image(Pillow.open(io.BytesIO(data))), return_tensors="np", **options)["pixel_values"]
    return np.asarray(found).reshape(found.shape[-3:])


@pytest.mark.parametrize("name", SMALL)
def test_pixels_are_the_processors_own_to_the_last_bit(name: str) -> None:
    original = processor(name, **SMALL[name])
    spec, _ = from_processor(original)
    raw = {"do_rescale": False, "do_normalize": False} | ({"include_top": False} if "EfficientNet" in name else {})
    for data in pictures():
        expected = theirs(original, data, **raw)
        assert expected.dtype == np.uint8
        np.testing.assert_array_equal(pixels(spec, data), expected)


@pytest.mark.parametrize(("name", "options"), [*SMALL.items(), *OTHER])
def test_numbers_are_the_processors_own(name: str, options: dict[str, Any]) -> None:
    original = processor(name, **options)
    spec, normalizer = from_processor(original)
    for data in pictures()[:4]:
        ours = normalizer(torch.from_numpy(pixels(spec, data)))
        assert ours.dtype == torch.float32
        np.testing.assert_allclose(ours, theirs(original, data), rtol=1e-6, atol=1e-6)


def test_transparent_images_are_on_white_where_the_processor_puts_them_there() -> None:
    file = io.BytesIO()
    Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8)).save(file, "PNG")
    original = processor("CLIPImageProcessorPil", **SMALL["CLIPImageProcessorPil"])
    spec, _ = from_processor(original)
    expected = original(Pillow.open(file), return_tensors="np", do_rescale=False, do_normalize=False)["pixel_values"]
    np.testing.assert_array_equal(pixels(spec, file.getvalue()), expected[0])


def test_a_front_takes_images_and_videos_of_any_batch() -> None:
    normalizer = Normalizer([0.5, 1.0, 2.0], [1.0, 0.0, -1.0])
    batch = torch.randint(0, 256, (2, 3, 3, 4, 5), dtype=torch.uint8)
    found = normalizer(batch)
    assert found.shape == batch.shape
    for each, alone in zip(found.flatten(0, 1), batch.flatten(0, 1), strict=True):
        torch.testing.assert_close(normalizer(alone), each, rtol=0, atol=0)
    torch.testing.assert_close(found[0, 0, 2], batch[0, 0, 2].float() * 2 - 1)


def test_a_video_is_prepared_as_the_processor_prepares_its_frames() -> None:
    original = processor("VideoMAEImageProcessorPil", **SMALL["VideoMAEImageProcessorPil"])
    image, normalizer = from_processor(original)
    spec = VideoPrepare(inputs={"frames": "pixel_values"}, image=image, frames=4)
    film = films(1)[0]
    (row,) = VideoInput(spec, RuntimeConfig(), Path).prepare([film], REQUEST)
    assert not isinstance(row, Exception)
    chosen = default_sample_indices_fn(VideoMetadata(total_num_frames=len(film.data), fps=film.rate), num_frames=4)
    expected = original([Pillow.fromarray(film.data[place]) for place in chosen], return_tensors="np")["pixel_values"]
    np.testing.assert_allclose(normalizer(torch.from_numpy(row["pixel_values"])), expected[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [8, 9, 31, 250])
def test_sampled_places_are_those_of_transformers(count: int) -> None:
    image = ImagePrepare(inputs={"pixels": "x"}, height=8, width=8, steps=(Resize(height=8, width=8),))
    metadata = VideoMetadata(total_num_frames=count, fps=24.0)
    for frames in (1, 5, 8):
        spec = VideoPrepare(inputs={"frames": "x"}, image=image, frames=frames)
        assert places(spec, count, 24.0) == default_sample_indices_fn(metadata, num_frames=frames).tolist()
    for fps in (0.5, 2.0, 23.0):
        spec = VideoPrepare(inputs={"frames": "x"}, image=image, frames=1000, sampling="fps", fps=fps)
        assert places(spec, count, 24.0) == default_sample_indices_fn(metadata, fps=fps).tolist()


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("ViltImageProcessorPil", {}, "several sizes"),
        ("DetrImageProcessorPil", {}, "longest_edge"),
        ("CLIPImageProcessorPil", {"do_center_crop": False}, "several sizes"),
        ("MobileViTImageProcessorPil", {}, "does more than scale"),  # it turns the colours round
        ("PerceiverImageProcessorPil", {}, "does more than scale"),  # it crops before it scales
        ("Siglip2ImageProcessorPil", {}, "settings that are not supported"),  # it cuts patches
    ],
)
def test_processors_that_do_something_else_are_refused(name: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ExportError, match=reason) as caught:
        from_processor(processor(name, **options))
    assert name in caught.value.message


def test_convnext_of_small_sizes_scales_further_and_crops() -> None:
    spec, _ = from_processor(processor("ConvNextImageProcessorPil", size={"shortest_edge": 224}))
    assert spec.steps == (Resize(fit="shortest", height=256, width=256), CenterCrop(height=224, width=224))


def test_samples_are_the_same_every_time_and_no_two_alike() -> None:
    spec = ImagePrepare(inputs={"pixels": "pixel_values"}, height=8, width=8, steps=(Resize(height=8, width=8),))
    small = np.stack([pixels(spec, data).ravel() for data in pictures()]).astype(float)
    again = np.stack([pixels(spec, data).ravel() for data in images(12)])
    np.testing.assert_array_equal(small, again)
    apart = np.abs(small[:, None] - small[None]).mean(axis=2)
    assert apart[~np.eye(12, dtype=bool)].min() > 5
    film = VideoPrepare(inputs={"frames": "x"}, image=spec, frames=4)
    rows = VideoInput(film, RuntimeConfig(), Path).prepare([*map(Video, videos(4)), *films(4)], REQUEST)
    frames = np.stack([row["x"] for row in rows if not isinstance(row, Exception)]).astype(float)
    assert np.abs(frames[:4] - frames[4:]).mean() < 12  # the files lose a little of the films

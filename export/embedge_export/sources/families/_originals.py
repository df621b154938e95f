"""Originals of families: the library's own processor and model, on one item at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from embedge.bundle.part_specs import TextPrepare
from embedge.content import Image, Video
from embedge_export.model import Original
from embedge_export.sources.originals import frames, picture
from embedge_export.sources.text import whole

__all__ = ["ReadTensors", "image_reader", "original", "text_reader", "video_reader"]

ReadTensors = Callable[[Any], Mapping[str, Tensor]]
"""Turns one content into the model's inputs, a batch of one."""


def text_reader(processor: Any, prepare: TextPrepare) -> ReadTensors:
    """Return the processor's reading of a text; a tower of fixed length pads, as in training."""
    options = {"truncation": True, "max_length": prepare.max_length, "return_tensors": "pt"}
    padding = {"padding": "max_length"} if prepare.fixed_length else {}
    return lambda content: processor(text=[whole(prepare, content)], **options, **padding)


def image_reader(processor: Any) -> ReadTensors:
    """Return the processor's reading of an image.

    A processor without conversion to RGB gets RGB images, as from `load_image` of transformers.
    """
    colours = getattr(getattr(processor, "image_processor", processor), "do_convert_rgb", False)

    def read(content: Image) -> Mapping[str, Tensor]:
        image = picture(content) if colours else picture(content).convert("RGB")
        inputs: Mapping[str, Tensor] = processor(images=image, return_tensors="pt")
        return inputs

    return read


def video_reader(processor: Any, count: int) -> ReadTensors:
    """Return the processor's reading of a video: `count` frames, chosen by transformers.

    transformers refuses shorter videos; here their last frame repeats.
    """
    from transformers.video_utils import VideoMetadata, default_sample_indices_fn

    def read(content: Video) -> Mapping[str, Tensor]:
        found = frames(content)
        shown = [*found, *[found[-1]] * (count - len(found))]
        places = default_sample_indices_fn(VideoMetadata(total_num_frames=len(shown)), num_frames=count)
        pixels = processor([shown[place] for place in places], return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels.reshape(1, count, *pixels.shape[-3:])}

    return read


def original(read: ReadTensors, encode: Callable[..., Mapping[str, Tensor]]) -> Original:
    """Return a tower's original: `encode` maps the inputs from `read` to outputs, each a batch of one."""

    def ask(content: Any) -> dict[str, Any]:
        with torch.no_grad():
            return {name: found[0].numpy() for name, found in encode(**read(content)).items()}

    return ask

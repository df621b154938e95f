"""Image processors of transformers, converted to a preparation of images and a torch module for their arithmetic."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from torch import Tensor, nn

from embedge.bundle.part_specs import CenterCrop, ImagePrepare, ImageStep, Resize
from embedge.config import RuntimeConfig
from embedge.inputs.image import ImageInput
from embedge_export.errors import ExportError

__all__ = ["Normalizer", "from_processor"]

# A ConvNeXT processor crops below this size only; the constant is in its code, not in its settings.
_CONVNEXT_WHOLE = 384
# Sizes (width, height) to compare a processor with its conversion: wide, high, small, odd.
_TRIALS = ((301, 170), (120, 333), (31, 37))
# For the same arithmetic in another order; and for scaling by Pillow or torchvision, in steps of 1/256.
_TOLERANCE = 1e-5
_OTHER_SCALING = 4.0


class Normalizer(nn.Module):
    """uint8 pixels (…, channels, height, width) to float32: pixel * factor + offset, by channel."""

    factor: Tensor
    offset: Tensor

    def __init__(self, factor: Sequence[float], offset: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the model's input, float32 in the shape of the pixels."""
        return pixels.to(torch.float32) * self.factor + self.offset


def from_processor(processor: Any, *, name: str = "pixel_values") -> tuple[ImagePrepare, Normalizer]:
    """Convert an image processor, or a video processor's treatment of each frame, and compare the two on images.

    Args:
        processor: The processor of transformers.
        name: Name of the graph input.

    Returns:
        The preparation of images, and the module for their pixels.

    Raises:
        ExportError: The processor does more than scale, crop, rescale and normalize, or its images vary in size.
    """
    try:
        prepare, normalizer = _read(processor, name)
        _try(processor, prepare, normalizer)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(f"{_kind(processor)} has settings that are not supported: {error}") from error
    return prepare, normalizer


def _read(processor: Any, name: str) -> tuple[ImagePrepare, Normalizer]:
    steps = (*_resize(processor), *_crop(processor))
    if not steps or (isinstance(steps[-1], Resize) and steps[-1].fit != "exact"):
        raise ExportError(f"{_kind(processor)} makes images of several sizes; set a center crop, or height and width")
    prepare = ImagePrepare(
        inputs={"pixels": name},
        alpha="white" if getattr(processor, "do_convert_rgb", False) else "drop",
        height=steps[-1].height,
        width=steps[-1].width,
        steps=steps,
    )
    return prepare, _normalizer(processor)


def _resize(processor: Any) -> tuple[ImageStep, ...]:
    if not processor.do_resize:
        return ()
    size, resample = dict(processor.size), _filter(processor)
    match {key: value for key, value in size.items() if value is not None}:
        case {"height": height, "width": width, **rest} if not rest:
            return (Resize(height=height, width=width, resample=resample),)
        case {"max_height": height, "max_width": width, **rest} if not rest:
            return (Resize(fit="inside", height=height, width=width, resample=resample),)
        case {"shortest_edge": edge, **rest} if not rest:
            share = getattr(processor, "crop_pct", None)
            if share is None:
                return (Resize(fit="shortest", height=edge, width=edge, resample=resample),)
            if edge >= _CONVNEXT_WHOLE:
                return (Resize(height=edge, width=edge, resample=resample),)
            larger = int(edge / share)
            scaled = Resize(fit="shortest", height=larger, width=larger, resample=resample)
            return scaled, CenterCrop(height=edge, width=edge)
    raise ExportError(f"{_kind(processor)} scales to {size}; this is not supported, set height and width")


def _filter(processor: Any) -> Any:
    """Return the name of a processor's filter, given as Pillow's number or torchvision's name."""
    filter_ = getattr(processor.resample, "value", processor.resample)
    return filter_ if isinstance(filter_, str) else Pillow.Resampling(filter_).name.lower()


def _crop(processor: Any) -> tuple[ImageStep, ...]:
    if not getattr(processor, "do_center_crop", False):
        return ()
    return (CenterCrop(height=processor.crop_size["height"], width=processor.crop_size["width"]),)


def _normalizer(processor: Any) -> Normalizer:
    """Return a processor's arithmetic as one multiplication and one addition."""
    factor, offset = np.ones(3), np.zeros(3)
    deviation = np.broadcast_to(processor.image_std, 3) if processor.image_std is not None else np.ones(3)
    if processor.do_rescale:
        factor = factor * processor.rescale_factor
        offset = offset - (1.0 if getattr(processor, "rescale_offset", False) else 0.0)
    if processor.do_normalize:
        factor, offset = factor / deviation, (offset - np.asarray(processor.image_mean)) / deviation
    if getattr(processor, "include_top", False):  # EfficientNet's second division
        factor, offset = factor / deviation, offset / deviation
    return Normalizer(factor.tolist(), offset.tolist())


def _try(processor: Any, prepare: ImagePrepare, normalizer: Normalizer) -> None:
    """Raise ExportError if the processor's own results differ: its class does more than its settings show."""
    images = ImageInput(prepare, RuntimeConfig(), Path)
    same = getattr(processor, "backend", "pil") == "pil"
    tolerance = _TOLERANCE if same else _OTHER_SCALING * float(normalizer.factor.abs().max())
    for width, height in _TRIALS:
        picture = Pillow.fromarray(_pattern(height, width))
        ours = normalizer(torch.from_numpy(images.pixels(picture))).numpy()
        theirs = _original(processor, picture)
        if theirs.size != ours.size or np.abs(theirs.reshape(ours.shape) - ours).max() > tolerance:
            raise ExportError(
                f"{_kind(processor)} does more than scale, crop, rescale and normalize an image; "
                "this is not supported: prepare images with another processor, or export the model as a module"
            )


def _original(processor: Any, picture: Pillow.Image) -> NDArray[Any]:
    """Return a processor's own result for one image, or for a video of this one frame."""
    videos = "videos" in inspect.signature(processor.preprocess).parameters
    found = processor([picture] if videos else picture, return_tensors="np")
    return np.asarray(next(iter(found.values())), dtype=np.float32)


def _pattern(height: int, width: int) -> NDArray[np.uint8]:
    """Return smooth colors with edges (height, width, 3), different in each channel."""
    down, right = np.mgrid[:height, :width].astype(float)
    waves = np.stack([np.sin(down / 7 + right / 11), np.cos(right / 5), np.sign(np.sin(down / 9)) * 0.8], axis=2)
    return np.rint(127.5 + 127 * waves).astype(np.uint8)


def _kind(processor: Any) -> str:
    return type(processor).__name__

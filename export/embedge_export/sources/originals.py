"""Contents for the original's processor, opened by well-known libraries alone, without embedge's code."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.content import Audio, Image, Video

__all__ = ["clip", "frames", "picture"]


def picture(content: Image) -> Any:
    """Return a content as an upright Pillow image, in its own mode; the processor converts it."""
    from PIL import Image as Pillow
    from PIL import ImageOps

    if isinstance(content.data, np.ndarray):
        return Pillow.fromarray(content.data)
    return ImageOps.exif_transpose(Pillow.open(_file(content.data)))


def clip(content: Audio, rate: int) -> NDArray[np.float32]:
    """Return a clip's samples, float32 (n,), at `rate` Hz, with channels averaged."""
    import soundfile
    import soxr

    if isinstance(content.data, np.ndarray):
        samples, own = content.data.astype(np.float32), content.rate or rate
    else:
        samples, own = soundfile.read(_file(content.data), dtype="float32")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    return np.asarray(mono if own == rate else soxr.resample(mono, own, rate), dtype=np.float32)


def frames(content: Video) -> NDArray[np.uint8]:
    """Return all frames of a video, uint8 (n, height, width, 3)."""
    if isinstance(content.data, np.ndarray):
        return content.data
    import av

    with av.open(_file(content.data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _file(data: Any) -> Any:
    return BytesIO(data) if isinstance(data, bytes) else data

"""Videos to frames: which frames, and each of them prepared as an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from embedge.batches.batch import Row
from embedge.bundle.part_specs import VideoPrepare
from embedge.config import RuntimeConfig
from embedge.content import Video
from embedge.errors import EmbedgeError, InvalidInput
from embedge.inputs.footage import Footage
from embedge.inputs.image import ImageInput, Pixels
from embedge.inputs.media import bound, read, weigh
from embedge.inputs.picture import check_size
from embedge.request import Request

__all__ = ["VideoInput", "places"]

_PROBE_EDGE = 32


class VideoInput:
    """Prepares the videos of one part. Safe to call from several threads; libav and Pillow work outside the
    interpreter lock.
    """

    def __init__(self, spec: VideoPrepare, config: RuntimeConfig, file: Callable[[str], Path]) -> None:
        self.spec = spec
        self._image = ImageInput(spec.image, config, file)
        self._max_bytes = config.max_media_bytes
        self._max_pixels = config.max_image_pixels

    def check(self, request: Request) -> None:
        """Accept every request: what it says about cutting is looked at video by video."""

    def prepare(self, contents: Sequence[object], request: Request) -> list[Row | EmbedgeError]:
        """Return each video's frames, uint8 `(frames, channels, height, width)`, or its error."""
        return [self._row(content, truncate=request.truncate) for content in contents]

    def probe(self) -> Video:
        """Return two grey frames, uint8 `(2, height, width, 3)`, the fewest that show a video's shape."""
        rate = max(self.spec.fps, 2 / self.spec.max_seconds)
        return Video(np.full((2, _PROBE_EDGE, _PROBE_EDGE, 3), 127, np.uint8), rate=rate)

    def size(self, row: Row) -> int:
        """Return how many frames a row has."""
        return len(row[self.spec.inputs["frames"]])

    def estimate(self, contents: Sequence[object]) -> int:
        """Return how many frames there are at most."""
        return len(contents) * self.spec.frames

    def weight(self, content: object) -> int:
        """Return the bytes of a file or of frames."""
        return weigh(content.data if isinstance(content, Video) else content)

    def _row(self, content: object, *, truncate: bool) -> Row | EmbedgeError:
        data, rate = (content.data, content.rate) if isinstance(content, Video) else (content, None)
        try:
            if isinstance(data, (bytes, Path)):
                frames = self._from_file(read(data, self._max_bytes), truncate)
            else:
                frames = self._from_array(data, rate, truncate)
            return {self.spec.inputs["frames"]: frames}
        except InvalidInput as error:
            return error

    def _from_file(self, data: bytes, truncate: bool) -> Pixels:
        with Footage(data, max_pixels=self._max_pixels) as footage:
            count = footage.count
            if self._too_long(footage.seconds, truncate):
                count = footage.within(self.spec.max_seconds)
            wanted = places(self.spec, count, footage.rate)
            return self._stacked(footage.frames(wanted), wanted)

    def _from_array(self, data: object, rate: float | None, truncate: bool) -> Pixels:
        array = _checked(data)
        bound(array, self._max_bytes)
        check_size((array.shape[2], array.shape[1]), self._max_pixels)
        if rate is None and self.spec.sampling == "fps":
            raise InvalidInput(
                "this model takes frames by time; say how many a second there are: Video(frames, rate=…)"
            )
        if rate is not None and not 0 < rate < float("inf"):
            raise InvalidInput(f"rate is {rate}; it is how many frames a second there are, a number above 0")
        count = len(array)
        if rate is not None and self._too_long(count / rate, truncate):
            count = max(1, int(self.spec.max_seconds * rate))
        wanted = places(self.spec, count, rate or 0.0)
        return self._stacked({place: Pillow.fromarray(array[place]) for place in set(wanted)}, wanted)

    def _too_long(self, seconds: float, truncate: bool) -> bool:
        """Return whether a video is to be cut. Raises InvalidInput if it is too long and may not be."""
        if seconds > self.spec.max_seconds and not truncate:
            raise InvalidInput(
                f"the video lasts {seconds:,.1f} seconds, the model's limit is {self.spec.max_seconds:,.1f}; "
                "cut it, or allow cutting it with truncate=True"
            )
        return seconds > self.spec.max_seconds

    def _stacked(self, frames: dict[int, Pillow.Image], wanted: list[int]) -> Pixels:
        ready = {place: self._image.pixels(frame) for place, frame in frames.items()}
        return np.stack([ready[place] for place in wanted])


def places(spec: VideoPrepare, count: int, rate: float) -> list[int]:
    """Return which of `count` frames, at `rate` a second, a spec takes, in order; the last again where there are few.

    uniform: frame i of n is i * count // n, as in `default_sample_indices_fn` of transformers 5.23.
    center: `stride` apart, as many frames left out before as after them. transformers has examples only, which take
    such a window from anywhere.
    fps: as uniform, for as many frames as `count` / `rate` seconds hold at `fps` a second; then the first `frames`.
    """
    if spec.sampling == "center":
        begin = max(0, (count - (spec.frames - 1) * spec.stride - 1) // 2)
        return [min(begin + spec.stride * i, count - 1) for i in range(spec.frames)]
    if spec.sampling == "uniform" and count < spec.frames:
        return [min(i, count - 1) for i in range(spec.frames)]
    total = min(count, max(1, int(count / rate * spec.fps))) if spec.sampling == "fps" else spec.frames
    return [i * count // total for i in range(min(total, spec.frames))]


def _checked(data: object) -> NDArray[np.uint8]:
    if not isinstance(data, np.ndarray):
        raise InvalidInput(
            f"a video is needed here, not {type(data).__name__}; give the bytes of a file, a pathlib.Path to one, "
            "or frames uint8 (frames, height, width, 3)"
        )
    if data.dtype != np.uint8 or data.ndim != 4 or data.shape[3] != 3:
        raise InvalidInput(f"frames are uint8 (frames, height, width, 3), not {data.dtype} {data.shape}")
    if not data.size:
        raise InvalidInput(f"the video has no frames or no pixels: its shape is {data.shape}")
    return data

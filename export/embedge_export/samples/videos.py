"""Video files for the gate: the films, encoded."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np

from embedge.content import Video
from embedge_export.samples.films import films

__all__ = ["videos"]

_Codec = Literal["libvpx", "mpeg4"]
_FORMATS: tuple[tuple[str, _Codec], ...] = (("mp4", "mpeg4"), ("webm", "libvpx"))


def videos(count: int) -> list[bytes]:
    """Return the first `count` films as MP4 and WebM files; the same pixels every time."""
    return [_encoded(film, *_FORMATS[place % len(_FORMATS)]) for place, film in enumerate(films(count))]


def _encoded(film: Video, form: str, codec: _Codec) -> bytes:
    import av

    frames, file = np.asarray(film.data), io.BytesIO()
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream(codec, rate=round(film.rate or 1))
        height, width = (edge // 2 * 2 for edge in frames.shape[1:3])  # chroma has half the size
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames[:, :height, :width]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()

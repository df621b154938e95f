"""A video file: how many frames it has, and single ones of them, without decoding what lies between where possible."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image as Pillow

from embedge.errors import InvalidInput
from embedge.inputs.media import kind
from embedge.inputs.picture import check_size
from embedge.inputs.wanted import go_on

__all__ = ["Footage"]

# By kind of file: libav's reader. Never guessed by libav, some of whose formats are lists of other files and addresses.
_READERS = {"MP4": "mp4", "MKV": "matroska", "AVI": "avi"}
# A seek costs about as much as decoding so many frames.
_WORTH_A_SEEK = 16
# VP8 has packets that show no frame, so a frame may be found one place beside the one that was counted.
_SLACK = 1
# A file may end so long before the time that its header names: sound and picture rarely end together.
_MISSING_SECONDS = 1.0
_UPRIGHT = {
    90: Pillow.Transpose.ROTATE_90,
    180: Pillow.Transpose.ROTATE_180,
    270: Pillow.Transpose.ROTATE_270,
}


class Footage:
    """An open video file (MP4, MOV, MKV, WebM or AVI, by content). A context manager; for one thread at a time.

    Frames are counted, whatever the file announces. count: how many there are. rate: frames a second, on average.
    Raises InvalidInput for what is no video, is damaged or cut off, or has frames of more than `max_pixels`.
    """

    def __init__(self, data: bytes, *, max_pixels: int) -> None:
        name = kind(data)
        if name not in _READERS:
            raise InvalidInput(f"this is no video that can be read (it seems to be {name}); send MP4, WebM, MKV or AVI")
        self._max_pixels = max_pixels
        with _telling("opened"):
            self._container: InputContainer = av.open(
                BytesIO(data), "r", format=_READERS[name], metadata_errors="ignore"
            )
        try:
            self._stream = self._video_stream(name)
            with _telling("read"):
                self._times, self._keys = self._index()
        except BaseException:
            self.close()
            raise
        self.count = len(self._times)
        self.rate = float(self._stream.average_rate or 0) or self.count / max(self._seconds(self._times[-1]), 1e-3)

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. The object cannot be used any more."""
        self._container.close()

    @property
    def seconds(self) -> float:
        """How long the frames last, the last one included."""
        return self._seconds(self._times[-1]) + 1 / self.rate

    def within(self, seconds: float) -> int:
        """Return how many frames begin within the first `seconds`."""
        return bisect_left(self._times, seconds, key=self._seconds)

    def frames(self, indices: Iterable[int]) -> dict[int, Pillow.Image]:
        """Return the frames at these places, upright, RGB. Raises InvalidInput if one cannot be decoded."""
        found = {}
        at, decoded, frame = -1, self._decoded(0), None
        with _telling("decoded"):
            for index in sorted(set(indices)):
                key = self._keys[bisect_right(self._keys, index) - 1]
                if key > at + _WORTH_A_SEEK:
                    decoded = self._decoded(key)
                while at < index and (step := next(decoded, None)):
                    at, frame = step
                if frame is None or abs(at - index) > _SLACK:
                    raise InvalidInput(f"the video is damaged or cut off: frame {index:,} cannot be decoded")
                found[index] = self._upright(frame)
        return found

    def _video_stream(self, name: str) -> VideoStream:
        found = [each for each in self._container.streams.video if not each.disposition & Disposition.attached_pic]
        if not found:
            others = ", ".join(sorted({each.type for each in self._container.streams})) or "nothing"
            raise InvalidInput(f"the {name} file has no video in it, only: {others}; send a file with pictures")
        stream = found[0]
        if stream.codec_context is None:
            raise InvalidInput(f"the {name} file's video has a coding that cannot be read; send H.264, VP9 or MPEG-4")
        check_size((stream.codec_context.width, stream.codec_context.height), self._max_pixels)
        stream.codec_context.thread_count = 1  # whoever prepares has threads of its own, one a video
        return stream

    def _index(self) -> tuple[list[int], list[int]]:
        """Return the time of every frame as it is shown, in the stream's own unit, and which of them are keyframes.

        Packets are read, not decoded. Where they do not say when they are shown, frames are counted by decoding them.
        """
        times: list[int | None] = []
        keys = set()
        read, end = 0, 0.0
        for packet in self._container.demux():
            go_on()
            if packet.is_corrupt:
                raise InvalidInput("the video is damaged or cut off: a part of it is not whole")
            moment = packet.pts if packet.pts is not None else packet.dts
            if moment is not None and packet.time_base:
                end = max(end, float((moment + (packet.duration or 0)) * packet.time_base))
            if not packet.size or packet.stream.index != self._stream.index:
                continue
            read += 1
            if not packet.is_discard:
                times.append(packet.pts)
                keys |= {packet.pts} if packet.is_keyframe else set()
        self._check_whole(read, end)
        order = sorted(time for time in times if time is not None)
        # AVI has no times of showing: libav makes them up, and not always the same for packets and frames.
        self._timed = len(set(order)) == len(times) and self._container.format.name != "avi"
        if not self._timed:
            order = [place for place, _ in enumerate(self._frames(0))]
        if not order:
            raise InvalidInput("the video has no frames")
        return order, [0, *(place for place, time in enumerate(order) if self._timed and place and time in keys)]

    def _check_whole(self, packets: int, end: float) -> None:
        """Raise InvalidInput if there is less than the file announces: the rest of it was cut off."""
        announced = (self._container.duration or 0) / av.time_base + (self._container.start_time or 0) / av.time_base
        if end < announced - _MISSING_SECONDS:
            raise InvalidInput(
                f"the video is cut off or damaged: it announces {announced:,.1f} seconds and ends after {end:,.1f}"
            )
        # Only MP4 and its kin list every frame; the number in an AVI file is a guess of who wrote it.
        if "mp4" in self._container.format.name and packets < self._stream.frames:
            raise InvalidInput(
                f"the video is cut off or damaged: it announces {self._stream.frames:,} frames and has {packets:,}"
            )

    def _frames(self, time: int) -> Iterator[VideoFrame]:
        """Yield the frames from the keyframe at or before a time on, for as long as they are wanted."""
        self._container.seek(time, stream=self._stream)
        for frame in self._container.decode(self._stream):
            go_on()
            yield frame

    def _decoded(self, key: int) -> Iterator[tuple[int, VideoFrame]]:
        """Yield place and frame, from a keyframe on."""
        time = self._times[key] if self._timed else 0
        for count, frame in enumerate(self._frames(time)):
            yield (bisect_left(self._times, frame.pts or 0) if self._timed else count), frame

    def _seconds(self, time: int) -> float:
        """Return how long after the first frame a frame is shown."""
        unit = (self._stream.time_base or 0) if self._timed else 1 / (self._stream.average_rate or 25)
        return float((time - self._times[0]) * unit)

    def _upright(self, frame: VideoFrame) -> Pillow.Image:
        check_size((frame.width, frame.height), self._max_pixels)
        image = Pillow.fromarray(frame.to_ndarray(format="rgb24"))
        turn = _UPRIGHT.get(frame.rotation % 360)
        return image if turn is None else image.transpose(turn)


@contextmanager
def _telling(what: str) -> Iterator[None]:
    """Turn what libav says into InvalidInput."""
    try:
        yield
    except InvalidInput:
        raise
    except (av.FFmpegError, ValueError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise InvalidInput(f"the video cannot be {what}, it is damaged or cut off: {said}") from error

"""Encoded clips to samples: what the bytes are, how long they are, and no more of them decoded than is kept."""

from __future__ import annotations

import io
import math
from numbers import Real
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from embedge.errors import InvalidInput
from embedge.inputs import media

__all__ = ["Limit", "read", "take"]

Samples = NDArray[np.float32]

_TAKEN = "WAV, FLAC, OGG (Vorbis, Opus), MP3 or AIFF"
# Other kinds are not given to libsndfile: it would try some thirty formats on them.
_KINDS = ("WAV", "FLAC", "OGG", "MP3", "AIFF")
# Bytes of a file's begin that tell what it is.
_HEAD = 1024
_RATES = (1000, 384_000)
_CHANNELS = 64
# Values decoded at once, so that what a header announces allocates no more than this.
_BLOCK = 1 << 22
# RIFF sizes from here on stand for "not known": writers of streams put them there.
_UNKNOWN = 0x7FFF0000
# An OGG page is at most so large; the last one says that it ends the stream.
_PAGE = 65_307
# Some writers count a RIFF file's own header, or leave out its last padding.
_RIFF_EDGE = 8
# Samples of a frame, by which a guessed length of an MP3 may be off, and bytes that tags may take at its end.
_MP3_FRAME = 576
_MP3_TAGS = 4096


class Limit(NamedTuple):
    """How much of a clip is taken: longer ones are refused, or with `cut`, read for these seconds and `spare`."""

    seconds: float
    spare: float
    cut: bool

    def frames(self, found: int, rate: float) -> int:
        """Return how many of a clip's frames to read. Raises InvalidInput."""
        if found > self.seconds * rate and not self.cut:
            raise InvalidInput(
                f"the clip has {found / rate:,.2f} seconds, the model's limit is {self.seconds:,g}; "
                "split it, or allow cutting it with truncate=True"
            )
        return min(found, math.ceil((self.seconds + self.spare) * rate))


class _Reader:
    """A file for libsndfile, which seeks places before the begin of damaged ones: nothing may raise in its callback."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.readinto, self.tell = stream.readinto, stream.tell  # type: ignore[attr-defined]  # all files here have it

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, or stay where that place cannot be."""
        try:
            return self._stream.seek(place, whence)
        except (OSError, ValueError):
            return self._stream.tell()


def read(source: bytes | Path, limit: Limit) -> tuple[Samples, float]:
    """Decode a file. Its length is checked before anything is decoded.

    Returns:
        Samples `(n,)` float32, the mean of the channels, and their rate in Hz.

    Raises:
        InvalidInput: the file can't be decoded, is too long, or its end is missing.
    """
    try:
        with _open(source) as stream:
            return _decode(stream, limit)
    except soundfile.LibsndfileError as error:
        raise InvalidInput(f"the clip is damaged: {error.error_string.strip(' .')}; send the whole file") from error
    except OSError as error:
        raise InvalidInput(f"{source!s} cannot be read: {error.strerror}") from error


def take(samples: NDArray[np.generic], rate: object, limit: Limit) -> tuple[Samples, float]:
    """Check samples that came as an array `(n,)` or `(n, channels)`.

    Returns:
        Samples `(n,)` float32, the mean of the channels, and their rate in Hz.

    Raises:
        InvalidInput: rate, dtype or shape don't fit.
    """
    low, high = _RATES
    if not isinstance(rate, Real) or not low <= float(rate) <= high:
        raise InvalidInput(f"samples need their rate, {low:,} to {high:,} Hz, not {rate!r}: Audio(samples, rate)")
    if samples.dtype.kind != "f":
        raise InvalidInput(f"samples are {samples.dtype}, not floats in [-1, 1]; divide 16-bit ones by 32768")
    channels = (*samples.shape, 1)[1] if samples.ndim in (1, 2) else 0
    if not 1 <= channels <= _CHANNELS:
        raise InvalidInput(f"samples have the shape {samples.shape}; give (n,) or (n, channels)")
    with np.errstate(over="ignore"):  # what overflows is told as not finite
        kept = samples[: limit.frames(len(samples), float(rate))].astype(np.float32)
    return kept if kept.ndim == 1 else kept.mean(axis=1), float(rate)


def _open(source: bytes | Path) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if not source.is_file():  # to open a pipe would wait for its writer
        raise InvalidInput(f"{source!s} cannot be read: it does not exist, or is not a file")
    return source.open("rb")


def _decode(stream: BinaryIO, limit: Limit) -> tuple[Samples, float]:
    kind = _kind(stream.read(_HEAD))
    size = stream.seek(0, io.SEEK_END)
    _check_end(stream, kind, size)
    stream.seek(0)
    with soundfile.SoundFile(_Reader(stream)) as sound:
        _check_form(sound.samplerate, sound.channels)
        wanted = limit.frames(sound.frames, sound.samplerate)
        samples = _mono(sound, wanted)
        missing = wanted - len(samples)
        unread = size - stream.tell() if wanted == sound.frames else 0
        if kind == "MP3":
            _check_mp3(missing, unread)
        elif missing:
            raise _cut_off(f"{missing:,} of {sound.frames:,} samples are missing")
        return samples, sound.samplerate


def _mono(sound: soundfile.SoundFile, wanted: int) -> Samples:
    """Decode so many frames, or as many as there are."""
    share = np.full(sound.channels, 1 / sound.channels, np.float32)
    blocks: list[Samples] = []
    while wanted > 0:
        block = sound.read(min(wanted, _BLOCK // sound.channels), dtype="float32", always_2d=True)
        if not len(block):
            break
        # A product with equal shares is the mean, and eight times as fast as NumPy's along so short an axis.
        blocks.append(block[:, 0] if sound.channels == 1 else block @ share)
        wanted -= len(block)
    return blocks[0] if len(blocks) == 1 else np.concatenate([*blocks, np.empty(0, np.float32)])


def _kind(head: bytes) -> str:
    if not head:
        raise InvalidInput("the clip is empty: it has no bytes")
    kind = media.kind(head)
    if kind not in _KINDS:
        raise InvalidInput(f"this is no clip that can be decoded but {kind}: send {_TAKEN}")
    return kind


def _check_form(rate: float, channels: int) -> None:
    low, high = _RATES
    if not low <= rate <= high:
        raise InvalidInput(f"the clip's rate is {rate:,} Hz; taken are {low:,} to {high:,}")
    if channels > _CHANNELS:
        raise InvalidInput(f"the clip has {channels:,} channels; taken are up to {_CHANNELS}")


def _check_end(stream: BinaryIO, kind: str, size: int) -> None:
    """Raise for a missing end that libsndfile would not tell: it takes what is there for all there was."""
    if kind in ("WAV", "AIFF"):
        stream.seek(4)
        announced = int.from_bytes(stream.read(4), "little" if kind == "WAV" else "big") + 8
        if size + _RIFF_EDGE < announced < _UNKNOWN:
            raise _cut_off(f"it has {size:,} bytes of {announced:,}")
    if kind == "OGG":
        stream.seek(max(0, size - _PAGE))
        tail = stream.read()
        if not _is_last_page(tail[max(0, tail.rfind(b"OggS")) :]):
            raise _cut_off("the page that ends an OGG stream is missing")


def _is_last_page(page: bytes) -> bool:
    """Return whether an OGG page ends its stream and is whole: RFC 3533, section 6."""
    if len(page) < 27 or not page[5] & 4:
        return False
    sizes = page[27 : 27 + page[26]]
    return len(page) >= 27 + page[26] + sum(sizes)


def _check_mp3(missing: int, unread: int) -> None:
    """Raise unless the file has about the samples it announces and nothing else.

    Without a Xing header the length is a guess from the first frames' bit rate, and libsndfile decodes no more.
    """
    if missing >= _MP3_FRAME:
        raise _cut_off(f"{missing:,} of the samples that it announces are missing")
    if unread > _MP3_TAGS:
        raise InvalidInput("the MP3 does not say how long it is (no Xing header); write it again, or as FLAC")


def _cut_off(what: str) -> InvalidInput:
    return InvalidInput(f"the clip is cut off: {what}; send the whole file")

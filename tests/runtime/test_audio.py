"""Clips become samples at the model's rate, whatever file or array they come as; a bad one fails alone."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge.bundle.part_specs import AudioPrepare
from embedge.config import RuntimeConfig
from embedge.content import Audio
from embedge.errors import InvalidInput
from embedge.inputs.audio import AudioInput
from embedge.request import Request

RATE = 16_000


def part(max_bytes: int = 1 << 22, **spec: Any) -> AudioInput:
    fields: dict[str, Any] = {"inputs": {"samples": "s", "length": "l"}, "rate": RATE, "max_seconds": 2.0, **spec}
    return AudioInput(AudioPrepare(**fields), RuntimeConfig(max_media_bytes=max_bytes), Path)


def prepare(audio: AudioInput, *contents: object, truncate: bool = False) -> list[Any]:
    return audio.prepare(contents, Request(items=[], truncate=truncate))


def samples(audio: AudioInput, content: object, *, truncate: bool = False) -> NDArray[np.float32]:
    (row,) = prepare(audio, content, truncate=truncate)
    assert not isinstance(row, Exception), row
    return row["s"]


def refusal(audio: AudioInput, content: object, *, truncate: bool = False) -> str:
    (error,) = prepare(audio, content, truncate=truncate)
    assert isinstance(error, InvalidInput)
    return str(error)


def wave(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> NDArray[np.float32]:
    """Noise of a band that every rate here holds."""
    draw = np.random.default_rng(0).standard_normal((int(seconds * 8000), channels))
    return np.clip(0.1 * soxr.resample(draw, 8000, rate), -1, 1).astype(np.float32).squeeze()


def encoded(wave: NDArray[np.float32], form: str = "WAV", rate: int = RATE, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=form, subtype=subtype)
    return file.getvalue()


FILES = {
    "wav": encoded(wave()),
    "wav 24 bits": encoded(wave(), subtype="PCM_24"),
    "wav floats": encoded(wave(), subtype="FLOAT"),
    "wav adpcm": encoded(wave(), subtype="IMA_ADPCM"),
    "flac": encoded(wave(), "FLAC"),
    "vorbis": encoded(wave(), "OGG"),
    "opus": encoded(wave(), "OGG", subtype="OPUS"),
    "mp3": encoded(wave(), "MP3"),
    "aiff": encoded(wave(), "AIFF"),
}
WHOLE = ["wav", "flac", "vorbis", "opus", "mp3", "aiff"]


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_decoded(name: str) -> None:
    data = FILES[name]
    reference, rate = soundfile.read(io.BytesIO(data), dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(samples(part(), data), reference, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_clips_become_mono_at_the_models_rate(rate: int, channels: int) -> None:
    clip = wave(rate=rate, channels=channels)
    mono = clip if channels == 1 else clip.mean(axis=1)
    reference = soxr.resample(mono, rate, RATE)
    for content in (Audio(clip, rate), encoded(clip, rate=rate, subtype="FLOAT")):
        found = samples(part(), content)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, reference, atol=1e-6)


def test_bytes_paths_and_arrays_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    path.write_bytes(FILES["flac"])
    decoded, rate = soundfile.read(path)
    ways = (FILES["flac"], bytearray(FILES["flac"]), path, Audio(FILES["flac"]), Audio(path), Audio(decoded, rate))
    for content in ways:
        np.testing.assert_array_equal(samples(part(), content), decoded.astype(np.float32))


def test_long_clips_are_refused_or_cut_from_their_begin() -> None:
    for rate in (RATE, 44_100):
        data = encoded(wave(3.0, rate), rate=rate, subtype="FLOAT")
        assert "3.00 seconds, the model's limit is 2" in refusal(part(), data)
        whole = samples(part(max_seconds=5.0), data)
        np.testing.assert_allclose(samples(part(), data, truncate=True), whole[: 2 * RATE], atol=1e-5)


def test_a_long_file_is_refused_by_its_header_and_read_only_as_far_as_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "hours.wav"
    hours = 10 * 3600 * 8000 * 2
    with path.open("wb") as file:  # a sparse file: nothing of it is on disk but its first two seconds
        file.write(encoded(wave(2.0, 8000), rate=8000)[:44])
        file.write(encoded(wave(2.0, 8000), rate=8000)[44:])
        file.truncate(44 + hours)
        file.seek(4)
        file.write(struct.pack("<I", 36 + hours))
        file.seek(40)
        file.write(struct.pack("<I", hours))
    assert "36,000.00 seconds" in refusal(part(), path)
    assert len(samples(part(), path, truncate=True)) == 2 * RATE
    assert "max_media_bytes" in refusal(part(max_bytes=1000), FILES["wav"])


@pytest.mark.parametrize(("fill", "expected"), [("zero", "a--"), ("repeat", "aaa"), ("repeat_whole", "aa-")])
def test_short_clips_are_filled_up(fill: str, expected: str) -> None:
    clip = wave(0.8)
    pieces = {"a": clip, "-": np.zeros_like(clip)}
    (row,) = prepare(part(fixed=True, fill=fill), Audio(clip, RATE))
    np.testing.assert_array_equal(row["s"], np.concatenate([pieces[name] for name in expected])[: 2 * RATE])
    assert row["l"] == len(clip)


def test_the_least_length_is_filled_up_to() -> None:
    audio = part(min_seconds=0.5)
    assert len(samples(audio, Audio(wave(0.1), RATE))) == RATE // 2
    assert len(samples(audio, Audio(wave(0.9), RATE))) == len(wave(0.9))


@given(count=st.integers(1, 900), window=st.integers(1, 30), hop=st.integers(1, 40))
@settings(deadline=None)
def test_windows_cover_a_clip_once_and_in_order(count: int, window: int, hop: int) -> None:
    audio = part(rate=1000, max_seconds=window / 1000, hop_seconds=hop / 1000, max_windows=1000)
    clip = np.linspace(0.1, 1.0, count, dtype=np.float32)
    (row,) = prepare(audio, Audio(clip, 1000))
    assert row["s"].shape == (len(row["l"]), window)
    for place, (piece, length) in enumerate(zip(row["s"], row["l"], strict=True)):
        own = clip[place * hop : place * hop + window]
        assert length == len(own) > 0
        np.testing.assert_array_equal(piece[:length], own)
        assert not piece[length:].any()
    begins = (len(row["l"]) - 1) * hop
    assert begins + max(window, hop) >= count  # nothing behind the last window could have been one
    assert len(row["l"]) == 1 or begins - hop + window < count  # and the last one was needed


def test_windows_have_a_limit() -> None:
    audio = part(hop_seconds=1.0, max_windows=3)
    assert samples(audio, Audio(wave(4.0), RATE)).shape == (3, 2 * RATE)
    assert "limit is 4" in refusal(audio, Audio(wave(4.5), RATE))
    assert samples(audio, Audio(wave(9.0), RATE), truncate=True).shape == (3, 2 * RATE)


BAD = {
    "text": ("a sound", "a clip is needed here, not str"),
    "nothing": (b"", "no bytes"),
    "bare array": (wave(), "need their rate"),
    "no rate": (Audio(wave()), "need their rate"),
    "rate of zero": (Audio(wave(), 0), "need their rate"),
    "integers": (Audio((wave() * 32768).astype(np.int16), RATE), "divide 16-bit ones by 32768"),  # type: ignore[arg-type]
    "integers as floats": (Audio(wave() * 32768, RATE), "divide 16-bit ones by 32768"),
    "channels first": (Audio(np.zeros((2, 500), np.float32), RATE), "(n, channels)"),
    "no channels": (Audio(np.zeros((500, 0), np.float32), RATE), "(n, channels)"),
    "three axes": (Audio(np.zeros((5, 2, 2), np.float32), RATE), "(n, channels)"),
    "no samples": (Audio(np.zeros(0, np.float32), RATE), "no samples"),
    "no frames": (encoded(np.zeros(0, np.float32)), "no samples"),
    "nan": (Audio(np.array([0.1, np.nan]), RATE), "not finite"),
    "inf in a file": (encoded(np.array([0.1, np.inf], np.float32), subtype="FLOAT"), "not finite"),
    "beyond float32": (Audio(np.array([0.1, 1e300]), RATE), "not finite"),
    "image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG: send WAV, FLAC, OGG"),
    "video": (b"\0\0\0\x18ftypmp42" + bytes(100), "MP4: send WAV, FLAC, OGG"),
    "noise": (np.random.default_rng(0).bytes(5000), "no clip that can be decoded"),
    "magic only": (b"RIFF\x10\0\0\0WAVE" + bytes(12), "damaged"),
    "missing file": (Path("no/such/clip.wav"), "cannot be read"),
    "directory": (Path(), "cannot be read"),
    "no name of a file": (Path("a\0b"), "cannot be read"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_clip_fails_alone_and_says_why(name: str) -> None:
    content, message = BAD[name]
    good, bad, also = prepare(part(), FILES["wav"], content, FILES["flac"])
    assert isinstance(bad, InvalidInput)
    assert message in str(bad)
    assert len(good["s"]) == len(also["s"]) == RATE


def test_a_pipe_is_no_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "cannot be read" in refusal(part(), tmp_path / "pipe")


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_was_cut_off_is_refused(name: str, share: float) -> None:
    data = FILES[name]
    message = refusal(part(), data[: int(share * len(data))])
    assert "cut off" in message or "damaged" in message


def test_streamed_wav_files_do_not_know_their_length() -> None:
    data = bytearray(FILES["wav"])
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    np.testing.assert_array_equal(samples(part(), bytes(data)), samples(part(), FILES["wav"]))


def test_an_mp3_that_does_not_say_how_long_it_is_is_refused() -> None:
    """Its length would be guessed from its first frames, which are silent here, and the rest left out."""
    clip = np.concatenate([np.zeros(RATE, np.float32), wave(3.0)])
    file = io.BytesIO()
    soundfile.write(file, clip, RATE, format="MP3", bitrate_mode="VARIABLE", compression_level=0.1)
    data = file.getvalue()
    assert len(samples(part(max_seconds=9.0), data)) == len(clip)
    second = data.index(data[:2], 8 + data.index(b"Xing"))
    assert refusal(part(max_seconds=9.0), data[second:])


@given(place=st.integers(0, 200), value=st.integers(0, 255), name=st.sampled_from(WHOLE))
@settings(deadline=None, max_examples=60)
def test_no_damage_is_more_than_an_error(place: int, value: int, name: str) -> None:
    data = bytearray(FILES[name])
    data[place] = value
    (row,) = prepare(part(), bytes(data), truncate=True)
    assert isinstance(row, InvalidInput) or 0 < len(row["s"]) <= 2 * RATE


def test_damage_that_points_before_the_begin_is_quiet(tmp_path: Path) -> None:
    path = tmp_path / "clip.aiff"
    for place in range(60):  # sizes of chunks are among them; an error inside libsndfile's callback would be a warning
        data = bytearray(FILES["aiff"])
        data[place] = 0xFF
        path.write_bytes(data)
        for content in (bytes(data), path):
            (row,) = prepare(part(), content)
            assert isinstance(row, InvalidInput) or len(row["s"])


def test_sizes_estimates_and_weights(tmp_path: Path) -> None:
    audio = part(unit=320)
    clips = [FILES["wav"], Audio(wave(), RATE), Audio(wave(rate=48_000), 48_000)]
    sizes = [audio.size(row) for row in prepare(audio, *clips)]
    assert sizes == [50, 50, 50]
    assert audio.estimate(clips) == pytest.approx(sum(sizes), rel=0.1)
    odd = ["text", None, Audio(np.array(0.5), RATE), Audio(wave(), "16k")]  # type: ignore[arg-type]
    assert audio.estimate([*clips, *odd] * 100) > 0
    path = tmp_path / "clip.wav"
    path.write_bytes(FILES["wav"])
    assert audio.weight(FILES["wav"]) == audio.weight(path) == len(FILES["wav"])
    assert audio.weight(Audio(wave(), RATE)) == wave().nbytes
    assert audio.weight("text") == audio.weight(tmp_path / "none.wav") == 0
    assert part(fixed=True).estimate(clips) == 3 * 100
    windows = part(max_seconds=0.2, hop_seconds=0.1)
    assert windows.estimate(clips[1:]) == sum(windows.size(row) for row in prepare(windows, *clips[1:]))


@pytest.mark.parametrize(
    "spec", [{}, {"fixed": True}, {"hop_seconds": 0.5}, {"max_seconds": 0.1}, {"min_seconds": 1.0}]
)
def test_the_probe_is_a_clip_that_it_takes(spec: dict[str, Any]) -> None:
    audio = part(**spec)
    audio.check(Request(items=[]))
    assert samples(audio, audio.probe()).any()

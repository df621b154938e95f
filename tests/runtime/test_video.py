"""Video parts: the frames that the spec names, out of real files, and what is no video says so."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import RuntimeConfig
from embedge.bundle.part_specs import ImagePrepare, Resize, VideoPrepare
from embedge.content import Video
from embedge.errors import DeadlineExceeded, InvalidInput
from embedge.inputs.footage import Footage
from embedge.inputs.video import VideoInput, places
from embedge.inputs.wanted import while_wanted
from embedge.request import Request

REQUEST = Request(items=[])
CUT = Request(items=[], truncate=True)
WIDTH, HEIGHT, RATE = 64, 48, 10
IMAGE = ImagePrepare(
    inputs={"pixels": "x"}, height=HEIGHT, width=WIDTH, steps=(Resize(height=HEIGHT, width=WIDTH, resample="bilinear"),)
)
KINDS = {
    "mp4": "libx264",
    "mov": "mpeg4",
    "webm": "libvpx-vp9",
    "matroska": "libx264",
    "avi": "libx264",
}


def spec(frames: int = 4, **options: Any) -> VideoPrepare:
    return VideoPrepare(inputs={"frames": "x"}, image=IMAGE, frames=frames, **options)


def part(frames: int = 4, *, config: RuntimeConfig | None = None, **options: Any) -> VideoInput:
    return VideoInput(spec(frames, **options), config or RuntimeConfig(), Path)


def row(content: object, request: Request = REQUEST, **options: Any) -> NDArray[np.uint8]:
    (found,) = part(**options).prepare([content], request)
    assert not isinstance(found, Exception), found
    assert (found["x"].dtype, found["x"].flags.c_contiguous) == (np.dtype(np.uint8), True)
    return found["x"]


def fault(content: object, **options: Any) -> str:
    (found,) = part(**options).prepare([content], REQUEST)
    assert isinstance(found, InvalidInput)
    return found.message


@cache
def moving(count: int) -> NDArray[np.uint8]:
    """Coloured blocks that move on by one pixel a frame."""
    blocks = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    image = blocks.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(image, place, axis=1) for place in range(count)])


def written(file: Any, frames: NDArray[np.uint8], kind: str, *, turn: int = 0, **options: Any) -> None:
    with av.open(file, "w", format=kind, **options) as container:
        stream = container.add_stream(KINDS[kind], rate=RATE)
        stream.height, stream.width = frames.shape[1:3] if len(frames) else (HEIGHT, WIDTH)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = 20
        if turn:
            stream.set_display_rotation(turn)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@cache
def film(kind: str = "mp4", count: int = 60, turn: int = 0) -> bytes:
    file = io.BytesIO()
    written(file, moving(count), kind, turn=turn)
    return file.getvalue()


@cache
def decoded(data: bytes) -> list[NDArray[np.uint8]]:
    """Every frame, one after the other, by PyAV alone."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [[0], [59], [0, 20, 40], [5, 6, 58, 59], range(60)], ids=str)
def test_single_frames_are_the_ones_of_decoding_all(kind: str, wanted: Sequence[int]) -> None:
    data = film(kind)
    with Footage(data, max_pixels=10_000) as footage:
        assert (footage.count, footage.rate, footage.seconds) == (60, RATE, pytest.approx(6.0))
        found = footage.frames(wanted)
    for place in wanted:
        np.testing.assert_array_equal(np.asarray(found[place]), decoded(data)[place])


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_has_the_frames_of_the_whole_video(kind: str, tmp_path: Path) -> None:
    data = film(kind)
    found = row(data)
    np.testing.assert_array_equal(found.transpose(0, 2, 3, 1), np.stack([decoded(data)[i] for i in (0, 15, 30, 45)]))
    (tmp_path / "film").write_bytes(data)
    for content in (tmp_path / "film", Video(data), Video(tmp_path / "film"), Video(np.stack(decoded(data)))):
        np.testing.assert_array_equal(row(content), found)


@pytest.mark.parametrize("turn", [90, 180, -90])
def test_rotation_is_applied(turn: int) -> None:
    data = film(count=2, turn=turn)
    with Footage(data, max_pixels=10_000) as footage:
        found = np.asarray(footage.frames([1])[1])
    np.testing.assert_array_equal(found, np.rot90(decoded(data)[1], turn // 90))


def test_a_video_of_few_frames_repeats_its_last_but_not_by_time() -> None:
    data = film(count=2)
    for sampling in ("uniform", "center"):
        found = row(data, sampling=sampling)
        assert [np.array_equal(found[1], frame) for frame in found] == [False, True, True, True]
    assert len(row(data, sampling="fps", fps=10.0)) == 2


def test_frames_by_time_are_as_many_as_there_are() -> None:
    assert len(row(film(), frames=9, sampling="fps", fps=1.0)) == 6
    assert len(row(film(), frames=4, sampling="fps", fps=1.0)) == 4
    assert len(row(Video(moving(30), rate=10.0), frames=9, sampling="fps", fps=1.0)) == 3
    assert "say how many a second" in fault(moving(30), sampling="fps")
    assert "rate is -1" in fault(Video(moving(3), rate=-1.0), sampling="fps")


@given(st.integers(1, 400), st.integers(1, 64), st.integers(1, 20), st.floats(0.5, 120), st.floats(0.1, 60))
@settings(max_examples=200)
def test_places_are_in_order_in_range_and_spread(count: int, frames: int, stride: int, rate: float, fps: float) -> None:
    for sampling in ("uniform", "center", "fps"):
        found = places(spec(frames, sampling=sampling, stride=stride, fps=fps), count, rate)
        assert found == sorted(found)
        assert 0 <= found[0] <= found[-1] < count
        assert len(found) == frames if sampling != "fps" else len(found) == len(set(found)) <= frames
        if sampling == "center" and count >= (frames - 1) * stride + 1:
            assert set(np.diff(found)) <= {stride}
            assert found[0] - (count - 1 - found[-1]) in (0, -1)


def test_long_videos_are_refused_or_cut() -> None:
    assert "lasts 6.0 seconds, the model's limit is 3.0" in fault(film(), max_seconds=3.0)
    assert "lasts 6.0 seconds" in fault(Video(moving(60), rate=10.0), max_seconds=3.0)
    cut = row(film(), CUT, max_seconds=3.0, frames=30)
    np.testing.assert_array_equal(cut[-1].transpose(1, 2, 0), decoded(film())[29])
    np.testing.assert_array_equal(
        row(Video(moving(60), rate=10.0), CUT, max_seconds=3.0), row(Video(moving(30), rate=10.0))
    )


def sound(kind: str, codec: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


NO_VIDEOS = {
    b"": "the file is empty",
    b"#EXTM3U\nfile:///etc/hostname\n": "text",
    b"ffconcat version 1.0\nfile /etc/hostname\n": "text",
    b"\xff\xd8\xff\xe0": "JPEG",
    b"RIFF\0\0\0\0WAVEfmt ": "WAV",
    bytes(range(128, 256)) * 9: "nothing known",
    b"\0\0\0\x20ftypisom" + bytes(range(256)): "damaged or cut off",
    b"\x1aE\xdf\xa3" + bytes(range(256)): "damaged or cut off",
    b"RIFF\xff\xff\0\0AVI " + bytes(range(256)): "no video in it",
}


@pytest.mark.parametrize(("data", "seems"), NO_VIDEOS.items(), ids=range(len(NO_VIDEOS)))
def test_what_is_no_video_is_named(data: bytes, seems: str) -> None:
    assert seems in fault(data)


def test_sound_alone_and_no_frames_are_refused() -> None:
    assert "no video in it, only: audio" in fault(sound("mp4", "aac"))
    assert "no video in it, only: audio" in fault(sound("matroska", "aac"))
    empty = film("matroska", count=1)
    cluster = empty.index(b"\x1f\x43\xb6\x75")  # Matroska's frames are in clusters
    assert "no frames" in fault(empty[:cluster]) or "cut off" in fault(empty[:cluster])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_refused(kind: str) -> None:
    for share in (0.02, 0.3, 0.7):
        assert "cut off" in fault(film(kind)[: int(len(film(kind)) * share)])


def test_a_file_with_its_index_first_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    written(str(tmp_path / "film"), moving(60), "mp4", options={"movflags": "faststart"})
    data = (tmp_path / "film").read_bytes()
    assert row(data).shape == (4, 3, HEIGHT, WIDTH)
    for share in (0.5, 0.8, 0.99):
        assert "cut off" in fault(data[: int(len(data) * share)])


def test_a_number_of_frames_that_lies_changes_nothing() -> None:
    lying = bytearray(film("avi"))
    for place in (lying.index(b"avih") + 8 + 16, lying.index(b"strh") + 8 + 32):
        assert int.from_bytes(lying[place : place + 4], "little") == 60
        lying[place : place + 4] = (9).to_bytes(4, "little")
    np.testing.assert_array_equal(row(bytes(lying)), row(film("avi")))


def test_limits_in_pixels_and_bytes_come_before_decoding(tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(film())
    for content in (film(), moving(3)):
        assert "64 x 48 pixels" in fault(content, config=RuntimeConfig(max_image_pixels=64 * 48 - 1))
    for content in (film(), tmp_path / "film", moving(3)):
        assert "max_media_bytes" in fault(content, config=RuntimeConfig(max_media_bytes=1000))


def test_wrong_arrays_and_types_say_what_is_taken(tmp_path: Path) -> None:
    assert "not float64 (2, 4, 4, 3)" in fault(np.zeros((2, 4, 4, 3)))
    assert "not uint8 (4, 4, 3)" in fault(np.zeros((4, 4, 3), np.uint8))
    assert "no frames" in fault(np.zeros((0, 4, 4, 3), np.uint8))
    assert "not str" in fault("film.mp4")
    assert "no file" in fault(tmp_path / "nowhere.mp4")


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_no_damage_is_more_than_an_error_of_the_item(data: st.DataObject) -> None:
    file = bytearray(film(data.draw(st.sampled_from(list(KINDS))), count=3))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    good, (damaged, whole) = film(count=3), part().prepare([bytes(file), film(count=3)], REQUEST)
    assert isinstance(damaged, InvalidInput) or damaged["x"].shape[0] == 4
    assert not isinstance(whole, Exception)
    np.testing.assert_array_equal(whole["x"], row(good))


def test_weights_sizes_and_probe() -> None:
    slow = part(sampling="fps", fps=0.1, max_seconds=1.0)
    assert len(row(slow.probe(), sampling="fps", fps=0.1, max_seconds=1.0)) == 1
    shared = part(sampling="fps", fps=2.0)
    (found,) = shared.prepare([shared.probe()], REQUEST)
    assert not isinstance(found, Exception)
    assert shared.size(found) == 2
    assert shared.estimate([b"", b""]) == 8
    assert [shared.weight(content) for content in (b"123", Video(b"1"), moving(1))] == [3, 1, HEIGHT * WIDTH * 3]


@pytest.mark.parametrize("kind", ["mp4", "avi"])
def test_a_film_that_nobody_waits_for_any_more_is_decoded_no_further(kind: str) -> None:
    looks = iter([True] * 20)
    with while_wanted(lambda: next(looks, False)), pytest.raises(DeadlineExceeded, match="the caller left"):
        part().prepare([film(kind)], REQUEST)
    assert len(part().prepare([film(kind)], REQUEST)) == 1

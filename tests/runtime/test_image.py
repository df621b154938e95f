"""Image parts: pixels are the ones of the models' own processors, and what is no image says what it is."""

from __future__ import annotations

import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageOps

from embedge import RuntimeConfig
from embedge.batches.batch import Layout, pad
from embedge.bundle import Bundle
from embedge.bundle.part_specs import CenterCrop, ImagePrepare, ImageStep, Pad, Resize
from embedge.content import Image
from embedge.errors import BundleError, InvalidInput
from embedge.inputs.image import ImageInput
from embedge.request import Request
from embedge.wire.convert import request_to_proto
from tests.tiny_towers import tiny_towers

REQUEST = Request(items=[])
SQUARE = Resize(height=24, width=24)
CLIP = (Resize(fit="shortest", height=24, width=24), CenterCrop(height=24, width=24))
UPRIGHT = 0x0112


def part(*steps: ImageStep, config: RuntimeConfig | None = None, **options: Any) -> ImageInput:
    steps = steps or (SQUARE,)
    size = {"height": steps[-1].height, "width": steps[-1].width}
    return ImageInput(
        ImagePrepare(inputs={"pixels": "x"}, steps=steps, **size, **options), config or RuntimeConfig(), Path
    )


def pixels(content: object, *steps: ImageStep, **options: Any) -> NDArray[np.uint8]:
    (row,) = part(*steps, **options).prepare([content], REQUEST)
    assert not isinstance(row, Exception), row
    assert (row["x"].dtype, row["x"].flags.c_contiguous) == (np.dtype(np.uint8), True)
    return row["x"]


def fault(content: object, *steps: ImageStep, **options: Any) -> str:
    (row,) = part(*steps, **options).prepare([content], REQUEST)
    assert isinstance(row, InvalidInput)
    return row.message


def noise(width: int, height: int, mode: str = "RGB") -> Pillow.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 4), dtype=np.uint8)
    image = Pillow.fromarray(values)
    return image.convert("RGB").quantize(64) if mode == "P" else image.convert(mode)


def encoded(image: Pillow.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def plain(image: Pillow.Image) -> NDArray[np.uint8]:
    """What one exact resize gives, by Pillow alone."""
    upright = ImageOps.exif_transpose(image).convert("RGB").resize((24, 24), Pillow.Resampling.BICUBIC)
    return np.asarray(upright).transpose(2, 0, 1)


MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "P", "LA", "RGBA", "1"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("RGB", "P", "1"),
    "GIF": ("P", "L"),
    "TIFF": ("RGB", "CMYK", "LA", "1"),
}


@pytest.mark.parametrize(("form", "mode"), [(form, mode) for form, modes in MODES.items() for mode in modes])
def test_every_format_and_mode_is_read_as_pillow_reads_it(form: str, mode: str) -> None:
    data = encoded(noise(37, 21, mode), form)
    np.testing.assert_array_equal(pixels(data), plain(Pillow.open(io.BytesIO(data))))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation_is_applied(form: str, turn: int) -> None:
    exif = Pillow.Exif()
    exif[UPRIGHT] = turn
    data = encoded(noise(40, 20), form, exif=exif)
    np.testing.assert_array_equal(pixels(data), plain(Pillow.open(io.BytesIO(data))))


def test_orientation_by_xmp_is_applied_and_damaged_exif_is_none() -> None:
    image = noise(40, 20)
    xmp = encoded(image, "JPEG", xmp=b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    np.testing.assert_array_equal(pixels(xmp), plain(Pillow.open(io.BytesIO(xmp))))
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", b"nothing"):
        data = encoded(image, "JPEG", exif=exif)
        np.testing.assert_array_equal(pixels(data), plain(Pillow.open(io.BytesIO(encoded(image, "JPEG")))))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_become_the_upper_eight_and_are_not_clipped(form: str) -> None:
    values = np.arange(24 * 24, dtype=np.uint16).reshape(24, 24) * 113
    found = pixels(encoded(Pillow.fromarray(values), form))
    np.testing.assert_array_equal(found, np.broadcast_to(values >> 8, (3, 24, 24)))


def test_pixels_without_a_known_range_are_refused() -> None:
    assert "16 bits" in fault(encoded(Pillow.fromarray(np.ones((4, 4), np.float32)), "TIFF"))
    assert "16 bits" in fault(encoded(Pillow.fromarray(np.full((4, 4), 1 << 20, np.int32)), "TIFF"))


def test_transparent_pixels_show_what_is_under_them_or_white() -> None:
    image = Pillow.new("RGBA", (24, 24), (200, 10, 30, 0))
    assert pixels(encoded(image))[:, 0, 0].tolist() == [200, 10, 30]
    assert pixels(encoded(image), alpha="white")[:, 0, 0].tolist() == [255, 255, 255]
    palette = noise(24, 24, "P")
    data = encoded(palette, transparency=bytes(64))  # Pillow warns of these when it converts
    np.testing.assert_array_equal(pixels(data), plain(palette))
    assert (pixels(data, alpha="white") == 255).all()


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [noise(24, 24, "P"), noise(25, 24, "P")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(pixels(data), plain(Pillow.open(io.BytesIO(data))))


def test_grey_models_get_one_channel() -> None:
    image = noise(30, 20)
    found = pixels(encoded(image), mode="L")
    np.testing.assert_array_equal(found[0], np.asarray(image.convert("L").resize((24, 24), Pillow.Resampling.BICUBIC)))


def test_files_paths_and_arrays_are_the_same_image(tmp_path: Path) -> None:
    image = noise(30, 20)
    path = tmp_path / "picture"
    path.write_bytes(encoded(image))
    rows = [
        pixels(content) for content in (encoded(image), path, np.asarray(image), Image(path), Image(encoded(image)))
    ]
    assert all(np.array_equal(rows[0], row) for row in rows)
    grey = np.asarray(image.convert("L"))
    np.testing.assert_array_equal(pixels(grey), pixels(grey[:, :, None]))


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_a_centre_crop_is_the_middle_with_black_around_it(width: int, height: int, down: int, right: int) -> None:
    image = np.random.default_rng(0).integers(1, 256, (height, width, 3), dtype=np.uint8)
    found = pixels(image, CenterCrop(height=down, width=right)).transpose(1, 2, 0)
    canvas = np.pad(image, [(down, down), (right, right), (0, 0)])
    top, left = down + (height - down) // 2, right + (width - right) // 2
    np.testing.assert_array_equal(found, canvas[top : top + down, left : left + right])


@given(st.integers(1, 300), st.integers(1, 300))
@settings(deadline=None, max_examples=60)
def test_inside_and_pad_keep_the_whole_image(width: int, height: int) -> None:
    steps = (Resize(fit="inside", height=24, width=32, resample="box"), Pad(height=24, width=32, fill=7))
    scale = min(24 / height, 32 / width)
    size = int(height * scale), int(width * scale)
    image = np.full((height, width, 3), 200, np.uint8)
    if 0 in size:
        assert "too long and thin" in fault(image, *steps)
        return
    found = pixels(image, *steps)[0]
    assert (found == 200).sum() == size[0] * size[1]
    assert set(np.unique(found)) <= {7, 200}


def test_pad_at_the_top_left_and_of_what_is_too_large() -> None:
    image = np.full((2, 3, 3), 9, np.uint8)
    found = pixels(image, Pad(height=4, width=4, place="top_left"))[0]
    assert found.tolist() == [[9, 9, 9, 0], [9, 9, 9, 0], [0] * 4, [0] * 4]
    assert "takes up to 2 x 2" in fault(image, Pad(height=2, width=2))


@pytest.mark.parametrize(
    "steps",
    [
        [{"step": "resize", "fit": "shortest", "height": 4, "width": 4}],
        [{"step": "resize", "height": 20, "width": 4}],
        [],
    ],
    ids=["any width", "another size", "none"],
)
def test_steps_that_end_at_any_size_are_a_bundle_error(steps: list[dict[str, Any]], tmp_path: Path) -> None:
    file = tiny_towers(tmp_path / "towers") / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest["towers"]["image"]["parts"]["image"]["prepare"]["steps"] = steps
    file.write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"part image.image do not end at 4 x 4 for every image"):
        Bundle.load(file.parent)


def test_extreme_shapes_work_or_are_refused() -> None:
    long = np.full((20_000, 1, 3), 5, np.uint8)
    assert (pixels(long) == 5).all()
    assert "too long and thin" in fault(long, Resize(fit="shortest", height=224, width=224), CLIP[1])
    assert (pixels(np.full((1, 1), 5, np.uint8), *CLIP) == 5).all()


def bomb(width: int, height: int) -> bytes:
    """A PNG file whose header announces a large image and which has no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9000, 9000), (12_000, 12_000), (60_000, 60_000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    assert "max_image_pixels" in fault(bomb(*size))
    canvas = struct.pack("<I4x", 10) + (16_382).to_bytes(3, "little") * 2
    chunks = b"VP8X" + canvas + encoded(noise(4, 4), "WEBP", lossless=True)[12:]
    assert "too large" in fault(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks)
    small = RuntimeConfig(max_image_pixels=100)
    assert "110 pixels" not in fault(np.zeros((11, 10, 3), np.uint8), config=small)
    assert "11 x 10" in fault(encoded(noise(11, 10)), config=small)


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    file = encoded(noise(16, 16), "JPEG", progressive=True)
    assert isinstance(part().prepare([file], REQUEST)[0], dict)
    last = file[file.rindex(b"\xff\xda\0") : -2]
    assert "scans, the limit is 100" in fault(file[:-2] + last * 100 + file[-2:])


def test_too_many_bytes_are_refused_unread(tmp_path: Path) -> None:
    config, data = RuntimeConfig(max_media_bytes=100), encoded(noise(30, 30))
    (tmp_path / "picture").write_bytes(data)
    for content in (data, tmp_path / "picture", np.zeros((10, 10, 3), np.uint8)):
        assert "max_media_bytes" in fault(content, config=config)


NO_IMAGES = {
    b"": "the file is empty",
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>': "SVG",
    b"%PDF-1.7\n": "PDF",
    b"<!DOCTYPE html><html>": "HTML",
    b"PK\x03\x04rest": "ZIP",
    b"\0\0\0\x18ftypisom": "MP4",
    b"\0\0\0\x18ftypheic": "HEIC",
    b"RIFF\0\0\0\0WAVEfmt ": "WAV",
    b"a plain text": "text",
    b"aGVsbG8=": "text",
    bytes(range(128, 256)): "nothing known",
}


@pytest.mark.parametrize(("data", "seems"), NO_IMAGES.items(), ids=NO_IMAGES.values())
def test_what_is_no_image_is_named(data: bytes, seems: str) -> None:
    assert seems in fault(data)


@pytest.mark.parametrize("form", list(MODES))
def test_a_file_that_is_cut_off_is_refused(form: str) -> None:
    data = encoded(noise(64, 64, MODES[form][0]), form)
    for share in (0.05, 0.5, 0.9):
        assert f"the {form} image is damaged or cut off" in fault(data[: int(len(data) * share)])


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_no_damage_is_more_than_an_error_of_the_item(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([form for form in MODES if form != "TIFF"]))
    file = bytearray(encoded(noise(16, 16, MODES[form][0]), form))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    (row,) = part().prepare([bytes(file)], REQUEST)
    assert isinstance(row, InvalidInput) or row["x"].shape == (3, 24, 24)


def test_wrong_arrays_and_types_say_what_is_taken(tmp_path: Path) -> None:
    assert "float32 (4, 4, 3)" in fault(np.zeros((4, 4, 3), np.float32))
    assert "uint8 (3, 9, 9)" in fault(np.zeros((3, 9, 9), np.uint8))
    assert "no pixels" in fault(np.zeros((0, 4, 3), np.uint8))
    assert "not str" in fault("picture.jpg")
    assert "not NoneType" in fault(Image(None))  # type: ignore[arg-type]
    assert "no file" in fault(tmp_path / "nowhere.png")
    assert "no file" in fault(tmp_path)


def test_bad_items_fail_alone_and_threads_share_a_part() -> None:
    shared, good = part(), encoded(noise(50, 40), "JPEG")
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(lambda _: shared.prepare([good, b"bad", good], REQUEST), range(8)):
            assert isinstance(rows[1], InvalidInput)
            assert np.array_equal(rows[0]["x"], rows[2]["x"])  # type: ignore[call-overload]


def test_weights_sizes_and_probe(tmp_path: Path) -> None:
    shared = part()
    (row,) = shared.prepare([shared.probe()], REQUEST)
    assert not isinstance(row, Exception)
    assert shared.size(row) == 1
    assert shared.estimate([b"", b""]) == 2
    (tmp_path / "file").write_bytes(b"12345")
    assert [shared.weight(x) for x in (b"123", tmp_path / "file", tmp_path / "no", Image(b"1"), "text")] == [
        3,
        5,
        0,
        1,
        0,
    ]


def test_a_batch_of_pixels_is_a_quarter_of_the_same_in_float32_on_the_wire_and_before_the_graph() -> None:
    square = Resize(height=224, width=224)
    items = [Image(np.asarray(noise(224, 224)))] * 32
    message = request_to_proto("m", Request(items=items))
    spec = ImagePrepare(inputs={"pixels": "x"}, steps=(square,), height=224, width=224)
    rows: list[Any] = part(square).prepare(items, REQUEST)
    fed = pad(rows, Layout({"x": "uint8"}, spec.fills()))["x"]
    as_floats = 32 * 3 * 224 * 224 * np.dtype(np.float32).itemsize
    assert fed.nbytes / as_floats == 0.25
    assert 0.25 < message.ByteSize() / as_floats < 0.2501

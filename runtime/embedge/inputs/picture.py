"""Encoded pictures to pixels, upright and of one mode, as the models' own processors see them."""

from __future__ import annotations

import re
import struct
import sys
from io import BytesIO

import numpy as np
from PIL import Image as Pillow
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from embedge.bundle.part_specs import AlphaMode, ImageMode
from embedge.errors import InvalidInput
from embedge.inputs.media import kind

__all__ = ["check_size", "convert", "decode", "opened"]


class _Jpeg(JpegImageFile):
    """A JPEG file whose EXIF block is not searched for a resolution: a damaged one would be told as a warning."""

    def _read_dpi_from_exif(self) -> None:
        """Leave the resolution unknown."""


# Chosen here, not by `Image.open`: that tries whatever decoder is registered, and has one limit for the whole process.
_READERS: dict[str, type[ImageFile]] = {
    "JPEG": _Jpeg,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
}

# By EXIF orientation: what makes the image upright.
_UPRIGHT = {
    2: Pillow.Transpose.FLIP_LEFT_RIGHT,
    3: Pillow.Transpose.ROTATE_180,
    4: Pillow.Transpose.FLIP_TOP_BOTTOM,
    5: Pillow.Transpose.TRANSPOSE,
    6: Pillow.Transpose.ROTATE_270,
    7: Pillow.Transpose.TRANSVERSE,
    8: Pillow.Transpose.ROTATE_90,
}
_ORIENTATION = 0x0112
_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")


# What begins a scan of a JPEG file; its pixels have no such bytes. A progressive one has about ten, each of which goes
# over the whole image: a small file of many would keep a thread busy for hours. The limit is libtiff's.
_SCAN, _MOST_SCANS = b"\xff\xda\0", 100


def decode(data: bytes, *, max_pixels: int) -> Pillow.Image:
    """Return the image in a file, upright, in the file's own mode; the first frame of an animation.

    Raises InvalidInput for what is no image, is damaged or cut off, or has more than `max_pixels` by its header.
    """
    name = kind(data)
    if name not in _READERS:
        raise InvalidInput(f"this is no image that can be read (it seems to be {name}); send {_listed()}")
    if name == "JPEG" and (scans := data.count(_SCAN)) > _MOST_SCANS:
        raise InvalidInput(f"the JPEG image has {scans:,} scans, the limit is {_MOST_SCANS}; write it again")
    try:
        image = _READERS[name](BytesIO(data))
        check_size(image.size, max_pixels)
        image.load()
    except InvalidInput:
        raise
    except (Pillow.DecompressionBombError, Pillow.DecompressionBombWarning) as error:  # WebP and GIF look by themselves
        raise InvalidInput(f"the {name} image is too large, scale it down: {error}") from error
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise InvalidInput(f"the {name} image is damaged or cut off: {error}") from error
    return _upright(image, name)


def opened(image: Pillow.Image, *, max_pixels: int = sys.maxsize) -> Pillow.Image:
    """Return a copy of an image that a user opened or made: upright, in its own mode.

    Raises:
        InvalidInput: The image is damaged, or has more than `max_pixels`.
    """
    check_size(image.size, max_pixels)
    try:
        copy = image.copy()  # decodes an image that was only opened
    except Exception as error:  # decoders of damaged files raise whatever they stumble over
        raise InvalidInput(f"the image is damaged or cut off: {error}") from error
    return _upright(copy, image.format)


def _upright(image: Pillow.Image, name: str | None) -> Pillow.Image:
    turn = None if name == "TIFF" else _UPRIGHT.get(_orientation(image.info))  # Pillow turns TIFF by itself
    return image if turn is None else image.transpose(turn)


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise InvalidInput if an image of this width and height is over the limit."""
    width, height = size
    if width * height > max_pixels:
        raise InvalidInput(
            f"the image has {width:,} x {height:,} pixels, the limit is {max_pixels:,} in all (max_image_pixels); "
            "scale it down"
        )


def convert(image: Pillow.Image, mode: ImageMode, alpha: AlphaMode) -> Pillow.Image:
    """Return an image in another mode. 16 bits become the upper 8, where Pillow by itself would clip all above 255.

    alpha: transparent pixels show the colour they have under the transparency, or white.
    """
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    clear = image.info.pop("transparency", None) if alpha == "drop" else image.info.get("transparency")
    if alpha == "white" and ("A" in image.getbands() or clear is not None):
        image = image.convert("RGBA")
        image = Pillow.alpha_composite(Pillow.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return image if image.mode == mode else image.convert(mode)


def _eight_bits(image: Pillow.Image) -> Pillow.Image:
    """Return the upper 8 of 16 bits, as it is done with 16-bit colour. Raises InvalidInput for wider numbers."""
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise InvalidInput("the image has pixels of more than 16 bits, whose range is not known; convert it to 8 bits")
    return Pillow.fromarray((values >> 8).astype(np.uint8))


def _orientation(info: dict[str | tuple[int, int], object]) -> int:
    """Return the EXIF orientation that an image comes with, by EXIF or by XMP; 1 where it says none.

    Pillow's own reader of EXIF is slower, and tells of damage through `warnings`, which no thread has to itself.
    """
    exif = info.get("exif")
    found = _exif_orientation(exif.removeprefix(b"Exif\0\0")) if isinstance(exif, bytes) else None
    if found is not None:
        return found
    xmp = info.get("xmp") or info.get("XML:com.adobe.xmp") or b""
    match = _XMP.search(xmp.encode() if isinstance(xmp, str) else xmp if isinstance(xmp, bytes) else b"")
    return int(match[1]) if match else 1


def _exif_orientation(tiff: bytes) -> int | None:
    """Return the orientation in the first directory of an EXIF block, or None. Layout: TIFF 6.0, section 2."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None or len(tiff) < 8:
        return None
    (begin,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, begin) if begin + 2 <= len(tiff) else (0,)
    for place in range(begin + 2, min(begin + 2 + 12 * count, len(tiff) - 11), 12):
        tag, form, _, value = struct.unpack_from(order + "HHIH", tiff, place)
        if tag == _ORIENTATION and form == 3:  # an unsigned short
            return int(value)
    return None


def _listed() -> str:
    *first, last = _READERS
    return f"{', '.join(first)} or {last}"

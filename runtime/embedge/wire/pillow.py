"""Pillow images as files. Pillow is imported when the first one comes, so whoever made it has it."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from embedge.errors import InvalidInput

__all__ = ["png_of"]

# The modes that a PNG file can hold.
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16")


def png_of(image: Any) -> bytes:
    """Return a Pillow image as the bytes of a PNG file, upright and without loss.

    Raises:
        InvalidInput: The image is damaged, or its pixels are floats.
    """
    from embedge.inputs.picture import opened

    upright = opened(image)
    if upright.mode == "F":
        raise InvalidInput("the image has pixels of more than 16 bits, whose range is not known; convert it to 8 bits")
    if upright.mode not in _MODES:
        upright = upright.convert("RGBA" if "A" in upright.getbands() or "a" in upright.getbands() else "RGB")
    file = BytesIO()
    upright.save(file, "PNG", compress_level=1)
    return file.getvalue()

"""Strings, names and counts, checked for messages."""

from __future__ import annotations

import operator
from typing import cast

from embedge.errors import InvalidInput

__all__ = ["name_of", "text_from_bytes", "text_to_bytes", "whole_number"]


def name_of(what: str, value: object) -> str:
    """Return a string that a message can hold. Raises InvalidInput."""
    if not isinstance(value, str):
        raise InvalidInput(f"{what} must be a text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"{what} {value!r} holds lone surrogates and is not valid Unicode") from error
    return value


def text_to_bytes(text: object) -> bytes:
    """Return a string as bytes. Raises InvalidInput for anything else."""
    if not isinstance(text, str):
        raise InvalidInput(f"a text is needed, not {type(text).__name__}")
    # Surrogates become bytes that aren't UTF-8, so the server refuses this item and embeds the others.
    return text.encode("utf-8", "surrogatepass")


def text_from_bytes(data: bytes) -> str:
    """Return bytes as a string."""
    # Bytes that aren't UTF-8 become lone surrogates; the preparer refuses this item alone.
    return data.decode("utf-8", "surrogateescape")


def whole_number(what: str, value: object) -> int | None:
    """Return a number that a message can hold; the server checks its range. Raises InvalidInput."""
    if value is None:
        return None
    try:
        count = operator.index(cast("int", value))
    except TypeError:
        count = None
    if count is None or isinstance(value, bool):
        raise InvalidInput(f"{what} {value!r} is not a whole number")
    if abs(count) >= 1 << 31:
        raise InvalidInput(f"{what} {value} is not possible: no output has so many")
    return count

"""Input of `embedge embed`: lines of text or JSONL. A bad line carries its fault, and the others go on."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec

__all__ = ["Chunk", "InputLine", "chunks"]


@dataclass(frozen=True, slots=True)
class InputLine:
    """One line: its number from 1, its text, its JSON id, and the reason for a missing text.

    Attributes:
        fields: The JSON object's other fields, possibly parts of an item.
    """

    number: int
    text: str = ""
    id: str | int | None = None
    fault: str = ""
    fields: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Lines of one request. `raw` holds their bytes, for progress and for the digest of a resumed run."""

    lines: list[InputLine]
    raw: bytes = field(repr=False)


def chunks(stream: Iterable[bytes], size: int, *, json_field: str | None = None) -> Iterator[Chunk]:
    """Yield the lines in chunks of `size`. With `json_field`, each is JSON: a string, or an object with the field."""
    numbered = enumerate(stream, start=1)
    while part := list(islice(numbered, size)):
        yield Chunk([_line(number, raw, json_field) for number, raw in part], b"".join(raw for _, raw in part))


def _line(number: int, raw: bytes, json_field: str | None) -> InputLine:
    if number == 1:
        raw = raw.removeprefix(codecs.BOM_UTF8)  # a byte order mark, not part of the text
    return _text(number, raw) if json_field is None else _json(number, raw, json_field)


def _text(number: int, raw: bytes) -> InputLine:
    try:
        return InputLine(number, raw.decode("utf-8").rstrip("\r\n"))
    except UnicodeDecodeError as error:
        return InputLine(number, fault=f"not valid UTF-8 at byte {error.start}")


def _json(number: int, raw: bytes, name: str) -> InputLine:
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return InputLine(number, fault=f"not valid JSON: {error}")
    except RecursionError:
        return InputLine(number, fault="JSON that is nested too deeply")
    if isinstance(value, str):
        return InputLine(number, value)
    none = f"neither a string nor an object with a string {name!r}"
    if not isinstance(value, dict):
        return InputLine(number, fault=none)
    label = value.pop("id", None)
    if not _is_label(label):
        return InputLine(number, fault="its id is neither a string nor an integer of 64 bits")
    text = value.get(name)
    return (
        InputLine(number, text, label, "", value)
        if isinstance(text, str)
        else InputLine(number, "", label, none, value)
    )


def _is_label(value: Any) -> bool:
    """Return whether an id can be kept; to Python, true is an integer, but it is none to JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        return -(1 << 63) <= value < 1 << 63
    return value is None or isinstance(value, str)

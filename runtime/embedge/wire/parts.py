"""Convert items and their parts to messages, at the client, and back, at the server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embedge.content import Audio, Image, Text, Vector, Video, is_pillow, of_path
from embedge.errors import EmbedgeError, InvalidInput
from embedge.v1 import embedge_pb2 as pb
from embedge.wire.pillow import png_of
from embedge.wire.tensors import fill_tensor, tensor_array
from embedge.wire.texts import name_of, text_from_bytes, text_to_bytes

__all__ = ["content_from_proto", "fill_item", "fill_part", "item_from_proto"]

_FIELDS = {Image: ("image", "pixels"), Audio: ("audio", "samples"), Video: ("video", "frames")}


def fill_item(message: pb.Item, item: object, *, max_bytes: int = sys.maxsize) -> None:
    """Write an item into an empty message, and read the files of paths.

    Args:
        message: The empty message.
        item: The item.
        max_bytes: Size of the largest file that is read.

    Raises:
        InvalidInput: The item can't be sent.
    """
    if not isinstance(item, Mapping):
        fill_part(message.part, item, max_bytes)
        return
    for name, content in item.items():
        try:
            fill_part(message.parts[name_of("the name of a part", name)], content, max_bytes)
        except InvalidInput as error:
            raise InvalidInput(f"part {name!r}: {error.message}") from error
    if len(item) > 1:  # a map has no order on the wire
        message.order.extend(item)


def item_from_proto(message: pb.Item) -> Any:
    """Return the item, or its error, for the preparer to report."""
    try:
        if not message.HasField("part"):
            return {name: _named(name, message.parts[name]) for name in _order(message)}
        if message.parts:
            raise InvalidInput("the item holds both 'part' and 'parts'; send one of them")
        if message.part.WhichOneof("content") == "row":
            raise InvalidInput("a row of a table needs the name of its part; send it in 'parts'")
        return content_from_proto(message.part)
    except EmbedgeError as error:
        return error


def _order(message: pb.Item) -> Iterable[str]:
    """Return the names of the parts in order. Raises InvalidInput."""
    if message.order and sorted(message.order) != sorted(message.parts):
        raise InvalidInput("the item's 'order' does not name each of its parts once")
    return message.order or sorted(message.parts)


def fill_part(part: pb.Part, content: object, max_bytes: int) -> None:
    """Write a content into an empty part, and read the file of a path. Raises InvalidInput."""
    if isinstance(content, Path):
        content = of_path(content)
    elif is_pillow(content):
        content = Image(content)
    if isinstance(content, (str, Text)):
        _fill_text(part, content)
    elif isinstance(content, (Image, Audio, Video)):
        _fill_media(part, content, max_bytes)
    elif isinstance(content, Vector):
        fill_tensor(part.vector, _array(content.values))
        if content.space is not None:
            part.space = name_of("the space of a vector", content.space)
    elif isinstance(content, (list, tuple)) and not _of_numbers(content):
        _fill_set(part.set, content, max_bytes)
    elif isinstance(content, (np.ndarray, np.generic, list, tuple, int, float)):
        fill_tensor(part.tensor, _array(content))
    elif isinstance(content, (bytes, bytearray, memoryview, Path)):
        part.file = _file(content, max_bytes)
    elif isinstance(content, Mapping):
        _fill_row(part.row, content)
    else:
        raise InvalidInput(
            f"{type(content).__name__} cannot be embedded; a string, an array, the bytes or the Path of a file, "
            "a Pillow image, a row of a table, or a value such as embedge.Image is needed"
        )


def _fill_text(part: pb.Part, content: str | Text) -> None:
    if isinstance(content, str):
        part.text = text_to_bytes(content)
        return
    part.text = text_to_bytes(content.text)
    if content.pair is not None:
        part.pair = text_to_bytes(content.pair)
    if content.instruction is not None:
        part.instruction = text_to_bytes(content.instruction)
    if content.language is not None:
        part.language = name_of("the language of a text", content.language)


def _fill_media(part: pb.Part, content: Image | Audio | Video, max_bytes: int) -> None:
    file, array = _FIELDS[type(content)]
    if isinstance(content.data, np.ndarray):
        fill_tensor(getattr(part, array), content.data)
    else:
        data = png_of(content.data) if is_pillow(content.data) else content.data
        setattr(part, file, _file(data, max_bytes))
    rate = None if isinstance(content, Image) else content.rate
    if rate is not None:
        part.rate = _number(rate, "the rate")


def _array(content: Any) -> NDArray[Any]:
    """Return numbers as an array. Raises InvalidInput for a ragged list, and for a mask, which would be lost."""
    if isinstance(content, np.ma.MaskedArray) and np.ma.is_masked(content):
        raise InvalidInput("the array is masked; give one that has NaN where a number is missing: .filled(np.nan)")
    try:
        return np.asarray(content)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"an array is needed, and this list does not make one: {error}") from error


def _file(data: object, max_bytes: int) -> bytes:
    """Return the bytes of a file, given as bytes or path. Raises InvalidInput."""
    if isinstance(data, Path):
        try:
            if not data.is_file():  # reading a pipe or a device might never end
                raise InvalidInput(f"{data} cannot be read: it does not exist, or is not a file")
            size = data.stat().st_size
            if size > max_bytes:
                raise InvalidInput(
                    f"{data} has {size:,} bytes, the limit of a message is {max_bytes:,}; make it smaller, or raise "
                    "max_message_bytes here and --max-message-bytes at the server"
                )
            return data.read_bytes()
        except OSError as error:
            raise InvalidInput(f"{data} cannot be read: {error.strerror}") from error
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise InvalidInput(f"the bytes of a file, its Path or an array is needed, not {type(data).__name__}")


def _of_numbers(content: object) -> bool:
    """Return whether a list holds numbers only, and so is an array; any other list is a set."""
    if isinstance(content, (list, tuple)):
        return bool(content) and all(map(_of_numbers, content))
    return isinstance(content, (int, float, np.generic))


def _fill_set(message: pb.Set, pieces: Sequence[object], max_bytes: int) -> None:
    message.SetInParent()  # also where the set is empty
    for index, piece in enumerate(pieces):
        try:
            fill_item(message.pieces.add(), piece, max_bytes=max_bytes)
        except InvalidInput as error:
            raise InvalidInput(f"piece {index}: {error.message}") from error


def _fill_row(message: pb.Row, row: Mapping[object, object]) -> None:
    message.SetInParent()  # also where the row has no cell
    for name, value in row.items():
        cell = message.cells[name_of("the name of a column", name)]
        if isinstance(value, str):
            cell.category = text_to_bytes(value)
        elif value is not None:
            cell.number = _number(value, f"column {name!r}")


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(f"{what} must be a number, not {value!r}") from error


def _named(name: str, part: pb.Part) -> Any:
    try:
        return content_from_proto(part)
    except InvalidInput as error:
        raise InvalidInput(f"part {name!r}: {error.message}") from error


def content_from_proto(part: pb.Part) -> Any:
    """Return the value of a part. Raises InvalidInput."""
    kind = part.WhichOneof("content")
    if kind is None:
        raise InvalidInput("the part is empty; send what it holds")
    return _VALUES[kind](part)


def _rate(part: pb.Part) -> float | None:
    return part.rate if part.HasField("rate") else None


def _audio(data: Any, rate: float | None) -> Audio:
    return Audio(data, int(rate) if rate is not None and rate.is_integer() else cast("int | None", rate))


def _vector(part: pb.Part) -> Vector:
    return Vector(tensor_array(part.vector), part.space if part.HasField("space") else None)


def _row(part: pb.Part) -> dict[str, float | str | None]:
    return {name: _cell(cell) for name, cell in part.row.cells.items()}


def _text(part: pb.Part) -> str | Text:
    text = text_from_bytes(part.text)
    extras = {name: text_from_bytes(getattr(part, name)) for name in ("pair", "instruction") if part.HasField(name)}
    if part.HasField("language"):
        extras["language"] = part.language
    return Text(text, **extras) if extras else text


def _cell(cell: pb.Cell) -> float | str | None:
    kind = cell.WhichOneof("value")
    if kind is None:
        return None
    return cell.number if kind == "number" else text_from_bytes(cell.category)


_VALUES: dict[str, Callable[[pb.Part], Any]] = {
    "text": _text,
    "image": lambda part: Image(part.image),
    "pixels": lambda part: Image(tensor_array(part.pixels)),
    "audio": lambda part: _audio(part.audio, _rate(part)),
    "samples": lambda part: _audio(tensor_array(part.samples), _rate(part)),
    "video": lambda part: Video(part.video, _rate(part)),
    "frames": lambda part: Video(tensor_array(part.frames), _rate(part)),
    "tensor": lambda part: tensor_array(part.tensor),
    "vector": _vector,
    "row": _row,
    "file": lambda part: part.file,
    "set": lambda part: [item_from_proto(piece) for piece in part.set.pieces],
}

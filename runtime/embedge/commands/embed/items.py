"""From lines to items for the model. Paths are relative to the input file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.commands.embed.lines import InputLine
from embedge.content import Audio, Image, Video, of_path
from embedge.errors import InvalidInput

__all__ = ["ItemReader"]

_MEDIA = {"image": Image, "audio": Audio, "video": Video}
_NUMBERS = ("tensor", "vector")


@dataclass(frozen=True, slots=True)
class ItemReader:
    """Turns lines into items.

    Attributes:
        base: The directory of relative paths.
        files: Lines are paths, not texts.
        field: The key of a lone text in a JSON object.
        modalities: The modality of each part of the model's towers.
    """

    base: Path
    files: bool
    field: str
    modalities: Mapping[str, str]

    def item(self, line: InputLine) -> Any:
        """Return the item of a line. Raises InvalidInput."""
        parts = {name: value for name, value in (line.fields or {}).items() if name in self.modalities}
        if parts and (set(parts) != {self.field} or self.modalities[self.field] != "text"):
            return {name: self._content(name, value) for name, value in parts.items()}
        if line.fault:
            known = ", ".join(self.modalities)
            raise InvalidInput(line.fault + (f", nor with parts of the model: {known}" if line.fields else ""))
        return self._file(line.text) if self.files else line.text

    def _content(self, name: str, value: Any) -> Any:
        modality = self.modalities[name]
        if modality in _MEDIA:
            if not isinstance(value, str):
                raise InvalidInput(f"part {name!r}: the path of a file is needed, not {type(value).__name__}")
            return _MEDIA[modality](self._path(value))
        return _numbers(name, value) if modality in _NUMBERS else value

    def _file(self, text: str) -> Any:
        """Return a file as the content type of its suffix."""
        return of_path(self._path(text))

    def _path(self, text: str) -> Path:
        path = self.base / text
        if not path.is_file():
            raise InvalidInput(f"{path}: no such file")
        return path


def _numbers(name: str, value: Any) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"part {name!r}: this list is not an array: {error}") from error
    if array.dtype.kind not in "fiub":
        raise InvalidInput(f"part {name!r}: a number, or a list of them, is needed")
    return array

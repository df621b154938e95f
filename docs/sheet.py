"""A contact sheet: queries on the left, what was found for each beside it, framed by whether it is right."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Hit", "Row", "contact_sheet"]

Cell = str | NDArray[np.uint8]  # words, or pixels (height, width, 3)

_WIDTH, _HEIGHT, _GAP, _FRAME, _UNDER, _EDGE = 192, 96, 22, 4, 26, 40  # pixels
_PAPER, _INK, _FAINT, _CARD = "#fbfaf7", "#22242a", "#7b7f8a", "#ffffff"
_RIGHT, _WRONG, _PLAIN = "#2e9e5b", "#d2483f", "#d9d6cf"
_TITLE, _WORDS, _SMALL = (ImageFont.load_default(size) for size in (24, 17, 15))


@dataclass(frozen=True)
class Hit:
    """Something found, with its score, and whether it is what was asked for."""

    cell: Cell
    score: float
    right: bool


@dataclass(frozen=True)
class Row:
    """A query and its hits, best first."""

    query: Cell
    hits: Sequence[Hit]


def contact_sheet(sections: dict[str, Sequence[Row]], path: Path) -> None:
    """Draw the rows of every section under its title, and save the sheet."""
    row_height = _HEIGHT + _UNDER + _GAP
    columns = 1 + max(len(row.hits) for rows in sections.values() for row in rows)
    height = 2 * _EDGE + sum(60 + row_height * len(rows) for rows in sections.values())
    sheet = Image.new("RGB", (2 * _EDGE + columns * (_WIDTH + _GAP), height), _PAPER)
    draw, top = ImageDraw.Draw(sheet), _EDGE
    for title, rows in sections.items():
        draw.text((_EDGE, top), title, _INK, _TITLE)
        top += 52
        for row in rows:
            _row(sheet, draw, row, top)
            top += row_height
        top += 8
    sheet.save(path)


def _row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, top: int) -> None:
    _cell(sheet, draw, row.query, (_EDGE, top), None)
    for place, hit in enumerate(row.hits, start=1):
        left = _EDGE + place * (_WIDTH + _GAP) + _GAP
        colour = _RIGHT if hit.right else _WRONG
        _cell(sheet, draw, hit.cell, (left, top), colour)
        draw.text((left + _WIDTH / 2, top + _HEIGHT + 10), f"{hit.score:.2f}", colour, _SMALL, anchor="mt")


def _cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: Cell, corner: tuple[int, int], frame: str | None
) -> None:
    """Draw words or a picture; without a frame it is a query."""
    left, top = corner
    box = (left - _FRAME, top - _FRAME, left + _WIDTH + _FRAME - 1, top + _HEIGHT + _FRAME - 1)
    if frame is not None or not isinstance(cell, str):
        draw.rounded_rectangle(box, 6, frame or _PLAIN)
    if not isinstance(cell, str):
        sheet.paste(Image.fromarray(cell).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC), corner)
        return
    if frame is not None:
        draw.rectangle((left, top, left + _WIDTH - 1, top + _HEIGHT - 1), _CARD)
    words = "\n".join(textwrap.wrap(cell, 18))
    middle = top + _HEIGHT / 2
    if frame is None:
        draw.multiline_text((left, middle), words, _INK, _WORDS, anchor="lm", spacing=7)
    else:
        draw.multiline_text((left + _WIDTH / 2, middle), words, _INK, _WORDS, anchor="mm", spacing=7, align="center")

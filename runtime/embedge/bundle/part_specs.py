"""Prepare specs: how each kind of part becomes arrays. They travel in the manifest; `embedge.inputs` carries them out.

Each spec's `inputs` maps roles to names of graph inputs; a role that the graph does not take is absent, but one of the
`carriers`, which hold the part itself, must be there. `fills` says how the arrays of several items become one array of
a batch.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec

from embedge.bundle.image_specs import (
    AlphaMode,
    CenterCrop,
    ImageMode,
    ImagePrepare,
    ImageStep,
    Pad,
    ResampleFilter,
    Resize,
    Tiles,
    VideoPrepare,
)
from embedge.bundle.spec import Duration, Fill, Size, Strict, Tokens

__all__ = [
    "AlphaMode",
    "AudioPrepare",
    "CenterCrop",
    "Column",
    "FarthestPoints",
    "Fill",
    "ImageMode",
    "ImagePrepare",
    "ImageStep",
    "Pad",
    "Prepare",
    "Resample",
    "ResampleFilter",
    "Resize",
    "Size",
    "Strict",
    "TablePrepare",
    "TensorPrepare",
    "TensorStep",
    "TextPrepare",
    "Tiles",
    "Tokens",
    "VectorPrepare",
    "VideoPrepare",
]

_PadId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
_SampleRate = Annotated[int, msgspec.Meta(ge=1000, le=384_000)]


class TextPrepare(Strict, frozen=True, kw_only=True, tag="text", tag_field="modality"):
    """How a text becomes token ids.

    `max_length` counts tokens with specials. `prompts` are prefixes by name, put before the text as they are.
    `allow_empty` lets empty and blank texts through; a vector of nothing means nothing, so by default they are refused.
    fixed_length: always pad to `max_length`. pairs: a text may come with a second one. instruction: what is put before
    a text that comes with an instruction of its own, in place of the prompt, e.g. `Instruct: {instruction}\\nQuery: `.
    languages: the number that the graph takes for each language id; default_language: of a text that names none.
    """

    carriers: ClassVar[tuple[str, ...]] = ("ids",)

    tokenizer: str
    max_length: Tokens
    pad_id: _PadId = 0
    padding_side: Literal["right", "left"] = "right"
    inputs: dict[Literal["ids", "mask", "types", "language"], str]
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    lowercase: bool = False
    allow_empty: bool = False
    fixed_length: bool = False
    pairs: bool = False
    instruction: str | None = None
    languages: dict[str, int] = {}
    default_language: str | None = None

    def fills(self) -> dict[str, Fill]:
        """Return ids and types (length,), mask made from them, language ()."""
        left, width = self.padding_side == "left", self.max_length if self.fixed_length else None
        known = {
            "ids": Fill(ragged=True, pad=self.pad_id, left=left, width=width, most=self.max_length),
            "types": Fill(ragged=True, left=left, width=width, most=self.max_length),
            "mask": Fill(ragged=True, left=left, width=width, mask_of=self.inputs.get("ids")),
            "language": Fill(),
        }
        return {name: known[role] for role, name in self.inputs.items()}


class AudioPrepare(Strict, frozen=True, kw_only=True, tag="audio", tag_field="modality"):
    """How a clip becomes mono float32 samples in [-1, 1] at `rate` Hz. Spectrograms are made in the graph.

    max_seconds: longer clips are refused, or cut with `truncate`. min_seconds: shorter ones are filled up to it.
    fixed: every clip is filled up to `max_seconds`; otherwise a batch is padded to its longest. fill: with zeros, with
    the clip again and again (the last time cut), or with the clip as often as it fits whole and zeros after it.
    hop_seconds: cut the clip into windows of `max_seconds` that begin this far apart: samples are (windows, samples),
    at most `max_windows`. unit: samples that count as one of length in cost tables and budgets.
    """

    carriers: ClassVar[tuple[str, ...]] = ("samples",)

    inputs: dict[Literal["samples", "mask", "length"], str]
    rate: _SampleRate
    max_seconds: Duration
    min_seconds: Annotated[float, msgspec.Meta(ge=0, le=86400)] = 0.0
    fixed: bool = False
    fill: Literal["zero", "repeat", "repeat_whole"] = "zero"
    hop_seconds: Duration | None = None
    max_windows: Size = 64
    unit: Tokens = 320

    def fills(self) -> dict[str, Fill]:
        """Return samples (samples,) or (windows, samples), mask made from it, and length, () or (windows,).

        Lengths are samples before filling up, 0 for windows that pad a batch.
        """
        windows = self.hop_seconds is not None
        most = self.max_windows if windows else round(self.max_seconds * self.rate)
        known = {
            "samples": Fill(ragged=windows or not self.fixed, most=most),
            "mask": Fill(ragged=True, mask_of=self.inputs.get("samples")),
            "length": Fill(ragged=windows, most=self.max_windows if windows else None),
        }
        return {name: known[role] for role, name in self.inputs.items()}


class FarthestPoints(Strict, frozen=True, kw_only=True, tag="farthest_points", tag_field="step"):
    """Keep `count` rows that lie as far apart as possible by their first three numbers, beginning with the first row.

    Fewer rows are repeated from the first on.
    """

    count: Size


class Resample(Strict, frozen=True, kw_only=True, tag="resample", tag_field="step"):
    """Interpolate linearly along the first axis to `count` rows, evenly spaced from the first to the last."""

    count: Size


TensorStep = FarthestPoints | Resample


class TensorPrepare(Strict, frozen=True, kw_only=True, tag="tensor", tag_field="modality"):
    """One typed array. Its first axis may be a symbol, which parts of one item share: (`time`, 7), (`points`, 3).

    max_length: most rows along a symbolic axis. minimum, maximum: bounds of the numbers. missing: `refuse` NaN, or let
    it through as 0 with 0 in the input of role `observed`. Infinite numbers are always refused. steps run in order.
    unit: rows that count as one of length.
    """

    carriers: ClassVar[tuple[str, ...]] = ("values",)

    inputs: dict[Literal["values", "mask", "observed"], str]
    dtype: Literal["float32", "float64", "int32", "int64", "uint8", "bool"] = "float32"
    shape: tuple[Size | str, ...]
    max_length: Tokens = 1 << 16
    minimum: float | None = None
    maximum: float | None = None
    missing: Literal["refuse", "mask"] = "refuse"
    steps: tuple[TensorStep, ...] = ()
    pad: float = 0.0
    unit: Tokens = 1

    def fills(self) -> dict[str, Fill]:
        """Return values, observed of the same shape, and mask made along the first axis."""
        ragged = bool(self.shape) and isinstance(self.shape[0], str) and not self.steps
        known = {
            "values": Fill(ragged=ragged, pad=self.pad, most=self.max_length),
            "observed": Fill(ragged=ragged, most=self.max_length),
            "mask": Fill(ragged=True, mask_of=self.inputs.get("values")),
        }
        return {name: known[role] for role, name in self.inputs.items()}


class Column(Strict, frozen=True, kw_only=True):
    """One column of a row: a number, or one of `categories`. missing: whether a cell may be left out."""

    name: str
    categories: tuple[str, ...] = ()
    missing: bool = False
    minimum: float | None = None
    maximum: float | None = None


class TablePrepare(Strict, frozen=True, kw_only=True, tag="table", tag_field="modality"):
    """How a row of a table (a mapping of column to number or category) becomes arrays.

    numbers: float32 (numeric columns,), 0 where missing. categories: int64 (columns with categories,), each cell the
    place of its category, from 0; the number of categories where missing. observed: (columns,), 1 where one is there.
    """

    carriers: ClassVar[tuple[str, ...]] = ("numbers", "categories")

    inputs: dict[Literal["numbers", "categories", "observed"], str]
    columns: Annotated[tuple[Column, ...], msgspec.Meta(min_length=1, max_length=1 << 14)]

    def fills(self) -> dict[str, Fill]:
        """Return numbers, categories and observed, each of one axis."""
        return {name: Fill() for name in self.inputs.values()}


class VectorPrepare(Strict, frozen=True, kw_only=True, tag="vector", tag_field="modality"):
    """A precomputed vector of `dim` numbers; of the space with this id, if one is named. normalize: to length 1."""

    carriers: ClassVar[tuple[str, ...]] = ("values",)

    inputs: dict[Literal["values"], str]
    dim: Size
    space: str | None = None
    normalize: bool = False

    def fills(self) -> dict[str, Fill]:
        """Return values (dim,)."""
        return {name: Fill() for name in self.inputs.values()}


Prepare = TextPrepare | ImagePrepare | AudioPrepare | VideoPrepare | TensorPrepare | TablePrepare | VectorPrepare

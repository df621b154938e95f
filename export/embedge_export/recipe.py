"""The recipe: a small TOML file that says how to build a bundle. Unknown keys are refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from embedge import toml
from embedge_export.errors import ExportError

__all__ = ["POOLING", "Gate", "PoolingMode", "Recipe", "load"]

PoolingMode = Literal["cls", "mean", "max", "mean_sqrt_len", "weightedmean", "lasttoken"]
POOLING: tuple[str, ...] = ("cls", "mean", "max", "mean_sqrt_len", "weightedmean", "lasttoken")

_Positive = Annotated[int, msgspec.Meta(ge=1)]
_MEASURES = ("cosine", "max_abs", "max_sim", "counts", "support", "equal", "mean_max_abs", "log_variance_max_abs")
_PARITY = ("finite", "cosine_mean", "cosine_min", *_MEASURES[1:], "recall_at_10", "rank_agreement")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the certificate's figures. `*_max_abs` are upper limits, all others lower ones.

    Which figures there are depends on the kind of output; docs/export.md explains each.
    known_tokens is the share of the corpus's tokens that the tokenizer knows; texts of foreign scripts may need less.
    single: limits of single figures, by full name, e.g. `"image.dense.cosine_min" = 0.9999`.
    items: most items of a tower that are compared; a larger corpus is thinned evenly.
    golden: how many of them travel in the bundle as golden pairs.
    """

    finite: float = 1.0
    cosine_mean: float = 0.99999
    cosine_min: float = 0.99999
    max_abs: float = 1e-4
    max_sim: float = 0.99999
    counts: float = 1.0
    support: float = 0.999
    equal: float = 0.999
    mean_max_abs: float = 1e-4
    log_variance_max_abs: float = 1e-4
    recall_at_10: float = 0.99
    rank_agreement: float = 0.99
    batch_cosine: float = 0.99999
    batch_max_abs: float = 1e-4
    padding_cosine: float = 0.99999
    padding_max_abs: float = 1e-4
    order_cosine: float = 0.99999
    order_max_abs: float = 1e-4
    known_tokens: float = 0.8
    single: dict[str, float] = {}
    items: _Positive = 320
    golden: Annotated[int, msgspec.Meta(ge=16, le=1024)] = 96

    def limit(self, figure: str, name: str) -> float:
        """Return the limit of a figure, `name` its full name.

        Invariances that have no limit of their own (`batch_support`, `order_mean_max_abs`, …) have that of parity.
        """
        if name in self.single:
            return self.single[name]
        own = getattr(self, figure, None)
        value: float = own if own is not None else getattr(self, figure.partition("_")[2])
        return value

    def limits(self, prefixes: Iterable[str]) -> dict[str, float]:
        """Return the limit of each figure by full name, for outputs whose figures have these prefixes."""
        names = [*_PARITY, *(f"{way}_{measure}" for way in ("batch", "padding", "order") for measure in _MEASURES)]
        return {prefix + name: self.limit(name, prefix + name) for prefix in prefixes for name in names}


class Recipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to build one bundle. None means: as the source says.

    source: a directory, an ONNX file, a hub id, or `package:NAME/PATH` for files inside an installed package.
    revision: branch, tag or commit of a hub id.
    pooling: one mode, or several whose vectors are concatenated in this order.
    max_length: most tokens of a text, specials included.
    prompts, default_prompt: added to the source's own, or in their place.
    dims: sizes the vectors were trained to be cut to; empty: any.
    normalize: scale vectors to length 1.
    corpus: a file of passages for the gate, a line each, or JSONL with a `text` key; relative to the recipe.
    """

    name: str
    source: str
    version: str = "1"
    revision: str | None = None
    pooling: PoolingMode | tuple[PoolingMode, ...] | None = None
    max_length: _Positive | None = None
    prompts: dict[str, str] = {}
    default_prompt: str | None = None
    dims: tuple[_Positive, ...] = ()
    normalize: bool | None = None
    precision: Literal["float32"] = "float32"
    opset: Annotated[int, msgspec.Meta(ge=18, le=20)] = 20
    corpus: str | None = None
    gate: Gate = Gate()

    def __post_init__(self) -> None:
        """Refuse names that are no plain directory names."""
        for key, value in (("name", self.name), ("version", self.version)):
            if not _NAME.fullmatch(value):
                raise ValueError(f"{key} {value!r} is not possible: use letters, digits, '.', '_' and '-'")

    @property
    def modes(self) -> tuple[PoolingMode, ...]:
        """The pooling modes named here; none if the source decides."""
        if self.pooling is None:
            return ()
        return self.pooling if isinstance(self.pooling, tuple) else (self.pooling,)


def load(path: Path | None, **overrides: Any) -> Recipe:
    """Read a recipe; `overrides` that are not None take the place of its values.

    Raises InvalidInput for a file that is no TOML, ExportError for one that is no recipe.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = toml.read(path)
        if isinstance(values.get("corpus"), str):
            values["corpus"] = str(path.parent / values["corpus"])
    values |= {key: value for key, value in overrides.items() if value is not None}
    where = str(path) if path else "the command line"
    if "name" not in values and "source" in values:
        values["name"] = _name_of(str(values["source"]))
    try:
        return msgspec.convert(values, Recipe)
    except msgspec.ValidationError as error:
        raise ExportError(f"{where}: not a valid recipe: {error}") from error


def _name_of(source: str) -> str:
    """Return a model name for a source that has no recipe: the last part of its path or id."""
    last = Path(source.removeprefix("package:")).stem if source.endswith(".onnx") else source.rstrip("/").split("/")[-1]
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._") or "model"

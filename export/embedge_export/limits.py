"""Limits of the gate: what each figure of a certificate must reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

__all__ = ["Gate", "Precision"]

Precision = Literal["float32", "float16", "bfloat16"]

# How far from the original a graph of this precision may be, in limits of float32: rounding grows by the bits that a
# number has less (24, 11 and 8), but products are summed up in float32, and what is sensitive stays there.
_SLACK = {"float32": 1.0, "float16": 20.0, "bfloat16": 200.0}
# Neighbours and padding must not matter in any precision: cosines of these have the same limit in all.
_COSINES = ("cosine_mean", "cosine_min", "max_sim")
_DISTANCES = ("max_abs", "mean_max_abs", "log_variance_max_abs", "batch_max_abs", "padding_max_abs", "order_max_abs")

_MEASURES = ("cosine", "max_abs", "max_sim", "counts", "support", "equal", "mean_max_abs", "log_variance_max_abs")
_PARITY = ("finite", "cosine_mean", "cosine_min", *_MEASURES[1:], "recall_at_10", "rank_agreement")


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of the certificate's figures. `*_max_abs` are upper limits, all others lower ones.

    Which figures there are depends on the kind of output; docs/export.md explains each.
    known_tokens is the share of the corpus's tokens that the tokenizer knows; texts of foreign scripts may need less.
    single: limits of single figures, by full name, e.g. `"image.dense.cosine_min" = 0.9999`.
    items: most items of a tower that are compared; a larger corpus is thinned evenly.
    golden: how many of them travel in the bundle as golden pairs.
    The limits here are those of float32; see `at` for others.
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
    items: Annotated[int, msgspec.Meta(ge=1)] = 320
    golden: Annotated[int, msgspec.Meta(ge=16, le=1024)] = 96

    def at(self, precision: Precision) -> Gate:
        """Return the limits for graphs of this precision: those that were left at their defaults are wider."""
        slack, usual = _SLACK[precision], Gate()
        wider = {name: 1 - (1 - getattr(usual, name)) * slack for name in _COSINES}
        wider |= {name: getattr(usual, name) * slack for name in _DISTANCES}
        own = {name: value for name, value in wider.items() if getattr(self, name) == getattr(usual, name)}
        return msgspec.structs.replace(self, **own)

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

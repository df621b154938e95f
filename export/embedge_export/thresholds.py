"""Thresholds of the gate, one for each metric of a certificate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

__all__ = ["Gate", "Precision"]

Precision = Literal["float32", "float16", "bfloat16"]

# Allowed distance from the original in each precision, as a multiple of float32's threshold. Rounding grows with the
# bits that the significand loses (24, 11 and 8), but products accumulate in float32, and sensitive nodes stay float32.
_SLACK = {"float32": 1.0, "float16": 20.0, "bfloat16": 200.0}
# Batch neighbours and padding must not matter in any precision, so their cosines keep one threshold.
_COSINES = ("cosine_mean", "cosine_min", "max_sim")
_DISTANCES = ("max_abs", "mean_max_abs", "log_variance_max_abs", "batch_max_abs", "padding_max_abs", "order_max_abs")

_MEASURES = ("cosine", "max_abs", "max_sim", "counts", "support", "equal", "mean_max_abs", "log_variance_max_abs")
_PARITY = ("finite", "cosine_mean", "cosine_min", *_MEASURES[1:], "recall_at_10", "rank_agreement")


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The recipe's `[gate]` table: thresholds for float32 (see `at` for other precisions), and numbers of items.

    `*_max_abs` are upper thresholds, all others lower ones. The kind of output decides on its metrics; docs/export.md
    explains each.

    Attributes:
        finite: Share of finite numbers.
        cosine_mean: Mean cosine to the original.
        cosine_min: Lowest cosine to the original.
        max_abs: Largest difference of one number, over the length of the original's vector.
        max_sim: Mean over the original's vectors of the highest cosine among the bundle's.
        counts: Share of items with as many vectors or codes as the original's.
        support: Share of sparse entries present in both, of those present in either.
        equal: Share of codes equal to the original's.
        mean_max_abs: Largest difference of a Gaussian's mean, over its length.
        log_variance_max_abs: Largest difference of a Gaussian's log-variance.
        recall_at_10: Share of the original's ten best hits found.
        rank_agreement: Spearman's rank correlation over the original's 50 best hits.
        batch_cosine: Lowest cosine of an item in batches to the item alone.
        batch_max_abs: Largest difference of an item in batches from the item alone, as in `max_abs`.
        padding_cosine: Lowest cosine of an item under more padding to the item alone.
        padding_max_abs: Largest difference of an item under more padding from the item alone.
        order_cosine: Lowest cosine of an item in a reversed batch to the same batch in order.
        order_max_abs: Largest difference of an item in a reversed batch.
        known_tokens: Share of the corpus's tokens in the tokenizer's vocabulary. Lower it for other scripts.
        single: Thresholds of single metrics by full name, such as `"image.dense.cosine_min" = 0.9999`.
        items: Number of items to compare per tower; a larger corpus is thinned evenly.
        golden: Number of items to store in the bundle as golden pairs.
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
        """Return the thresholds for graphs of this precision. Defaults widen; values set in the recipe stay."""
        slack, usual = _SLACK[precision], Gate()
        wider = {name: 1 - (1 - getattr(usual, name)) * slack for name in _COSINES}
        wider |= {name: getattr(usual, name) * slack for name in _DISTANCES}
        unset = {name: value for name, value in wider.items() if getattr(self, name) == getattr(usual, name)}
        return msgspec.structs.replace(self, **unset)

    def threshold(self, metric: str, name: str) -> float:
        """Return the threshold of a metric; `name` is its full name.

        Invariances without a threshold (`batch_support`, `order_mean_max_abs`, …) use that of parity.
        """
        if name in self.single:
            return self.single[name]
        found = getattr(self, metric, None)
        value: float = found if found is not None else getattr(self, metric.partition("_")[2])
        return value

    def thresholds(self, prefixes: Iterable[str]) -> dict[str, float]:
        """Return each threshold by full metric name, for outputs whose metrics have these prefixes."""
        invariances = ("batch", "padding", "order")
        names = [*_PARITY, *(f"{invariance}_{measure}" for invariance in invariances for measure in _MEASURES)]
        return {prefix + name: self.threshold(name, prefix + name) for prefix in prefixes for name in names}

"""The figures of a certificate, computed with NumPy, each with the input that set it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedge.manifest import Figure
from embedge.verify import retrieval
from embedge.verify.bench import Bench
from embedge.verify.golden import Golden

__all__ = ["Figures"]

Floats = NDArray[np.float32]

# Figures of `*_max_abs` are upper limits, all others lower ones.
_UPPER = "max_abs"
_MIXES = (2, 7, 32)
_EXTRA_PADDING = 19


class Figures:
    """Collects figures, each with the input that set it."""

    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits = limits
        self.taken: dict[str, Figure] = {}

    def add(self, name: str, value: float, worst: str = "") -> None:
        """Add a figure, if it has a limit."""
        if name in self.limits:
            better: Literal["higher", "lower"] = "lower" if name.endswith(_UPPER) else "higher"
            self.taken[name] = Figure(value=float(value), limit=self.limits[name], better=better, worst=worst)

    def pairs(self, prefix: str, texts: Sequence[str], ours: Floats, theirs: Floats) -> None:
        """Add the lowest cosine and the largest difference (over the length of the vector it differs from)."""
        cosines, differences = _cosines(ours, theirs), _differences(ours, theirs)
        low, high = int(np.argmin(cosines)), int(np.argmax(differences))
        self.add(prefix or "cosine_min", cosines[low], _label(low, texts))
        self.add(f"{prefix.split('_')[0]}_max_abs" if prefix else _UPPER, differences[high], _label(high, texts))

    def parity(self, golden: Golden, ours: Floats) -> None:
        """Compare each vector with the original's."""
        finite = np.isfinite(ours).all(axis=1)
        worst = "" if finite.all() else _label(int(np.argmin(finite)), golden.texts)
        self.add("finite", float(finite.mean()), worst)
        self.add("cosine_mean", float(_cosines(ours, golden.vectors).mean()))
        self.pairs("", golden.texts, ours, golden.vectors)

    def retrieval(self, golden: Golden, ours: Floats) -> None:
        """Use every text as a query for all others, and compare what ours finds with what the original finds."""
        if len(golden.texts) < 12:
            return
        recalls, agreements = retrieval.compare(retrieval.scores(golden.vectors), retrieval.scores(ours))
        low, least = int(np.argmin(recalls)), int(np.argmin(agreements))
        self.add("recall_at_10", recalls.mean(), _label(low, golden.texts))
        self.add("rank_agreement", agreements.mean(), _label(least, golden.texts))

    def invariance(self, bench: Bench) -> None:
        """Compare rows alone with the same rows in batches, under more padding, and in another order."""
        alone = np.concatenate([bench.run([row]) for row in range(len(bench.texts))])
        mixed = bench.mixes(_MIXES)
        texts = [bench.texts[row] for row, _ in mixed]
        self.pairs("batch_cosine", texts, np.stack([vector for _, vector in mixed]), alone[[row for row, _ in mixed]])
        padded = np.concatenate([bench.run([row], extra=_EXTRA_PADDING) for row in range(len(bench.texts))])
        self.pairs("padding_cosine", bench.texts, padded, alone)
        rows = list(range(min(16, len(bench.texts))))
        self.pairs("order_cosine", bench.texts[: len(rows)], bench.run(rows[::-1])[::-1], bench.run(rows))


def _label(index: int, texts: Sequence[str]) -> str:
    text = " ".join(texts[index].split())
    return f"#{index} {text[:60]!r}{'…' if len(text) > 60 else ''}"


def _cosines(ours: Floats, theirs: Floats) -> NDArray[np.float64]:
    """Return the cosine of each pair of rows, in float64: 1 - cosine is far below float32's resolution."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return np.asarray(np.divide((a * b).sum(axis=1), norms, out=np.zeros(len(a)), where=norms > 0))


def _differences(ours: Floats, theirs: Floats) -> NDArray[np.float64]:
    lengths = np.maximum(np.linalg.norm(theirs.astype(np.float64), axis=1), 1e-12)
    return np.asarray(np.abs(ours.astype(np.float64) - theirs).max(axis=1) / lengths)

"""Buckets: lengths of a tower's items in cost tables."""

from __future__ import annotations

from collections.abc import Iterable

from embedge.bundle.manifest import Buckets, Part
from embedge.bundle.part_specs import AudioPrepare, ImagePrepare, Prepare, TensorPrepare, TextPrepare, VideoPrepare

__all__ = ["buckets_of"]


def buckets_of(parts: Iterable[Part]) -> Buckets:
    """Return the buckets of a tower: powers of two from 16, and the total length limit of its parts."""
    spans = [_span(part.prepare) for part in parts]
    least, limit = sum(low for low, _ in spans), sum(high for _, high in spans)
    steps = (1 << power for power in range(4, 20))
    return Buckets(lengths=(*(step for step in steps if least < limit and least <= step < limit), limit))


def _span(prepare: Prepare) -> tuple[int, int]:
    """Return the minimum and maximum length of a part."""
    if isinstance(prepare, TextPrepare):
        return 1, prepare.max_length
    if isinstance(prepare, ImagePrepare) and prepare.tiles is not None:
        return 1, prepare.tiles.most
    if isinstance(prepare, VideoPrepare):
        return (1 if prepare.sampling == "fps" else prepare.frames), prepare.frames
    if isinstance(prepare, AudioPrepare):
        most = -(-round(prepare.max_seconds * prepare.rate) // prepare.unit)
        if prepare.hop_seconds is not None:
            return most, most * prepare.max_windows
        return (most, most) if prepare.fixed else (1, most)
    if (
        isinstance(prepare, TensorPrepare)
        and not prepare.steps
        and any(isinstance(axis, str) for axis in prepare.shape)
    ):
        return 1, max(1, prepare.max_length // prepare.unit)
    return 1, 1

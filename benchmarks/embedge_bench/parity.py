"""Correctness of the received vectors: cosines to reference vectors of a sample of the texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedge.errors import InvalidInput
from embedge_bench.results import Parity
from embedge_bench.targets import open_target, parse
from embedge_bench.texts import Texts

__all__ = ["Parity", "Reference", "from_bundle", "from_file", "pairs", "sample"]

_SAMPLE = 48


@dataclass(frozen=True, slots=True)
class Reference:
    """Reference vectors by place in the workload. `name` is their origin."""

    name: str
    vectors: dict[int, NDArray[np.float32]]

    def parity(self, came: Iterable[tuple[int, NDArray[np.generic]]]) -> Parity | None:
        """Compare received vectors, as (place, vector (dim,)), with the reference; None if none is comparable."""
        cosines = [_cosine(self.vectors[place], vector) for place, vector in came if place in self.vectors]
        if not cosines:
            return None
        # NaN is a wrong vector and must not hide in a minimum.
        worst = np.nan_to_num(np.array(cosines), nan=-1.0)
        return Parity(
            reference=self.name, items=len(worst), min_cosine=float(worst.min()), mean_cosine=float(worst.mean())
        )


def sample(texts: Texts, count: int = _SAMPLE) -> list[int]:
    """Return places of texts to compare: spread evenly from the shortest to the longest."""
    order = sorted(range(len(texts.texts)), key=texts.sizes.__getitem__)
    return sorted({order[int(at)] for at in np.linspace(0, len(order) - 1, min(count, len(order)))})


def from_bundle(path: str, texts: Texts) -> Reference:
    """Return the sample's vectors (dim,) from the bundle's graph, one text at a time. Raises EmbedgeError."""
    places = sample(texts)
    target = open_target(parse(f"ort:{path}"))
    try:
        info = target.info()
        vectors = {place: _float(target.embed([texts.texts[place]]).vectors[0]) for place in places}
    finally:
        target.close()
    return Reference(f"{info.model} {info.version}, batch 1 in {info.backend}", vectors)


def from_file(path: Path, texts: Texts) -> Reference:
    """Return the sample's vectors from an .npy file with a row for each text of the workload. Raises InvalidInput."""
    try:
        rows = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{path}: not a NumPy file of vectors: {error}") from error
    if rows.ndim != 2 or len(rows) != len(texts.texts):
        wanted = f"({len(texts.texts)}, dim)"
        raise InvalidInput(
            f"{path}: has shape {rows.shape}, workload {texts.name!r} needs {wanted}: a row for each text"
        )
    return Reference(path.name, {place: _float(rows[place]) for place in sample(texts)})


def _float(vector: NDArray[np.generic]) -> NDArray[np.float32]:
    return np.asarray(vector, dtype=np.float32)


def _cosine(one: NDArray[np.float32], other: NDArray[np.generic]) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    if a.shape != b.shape:
        return -1.0
    scale = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / scale if scale else float("nan")


def pairs(answers: Iterable[tuple[Sequence[int], NDArray[np.generic]]]) -> Iterable[tuple[int, NDArray[np.generic]]]:
    """Yield (place, vector) of answers given as (places, vectors)."""
    for places, vectors in answers:
        yield from zip(places, vectors, strict=True)

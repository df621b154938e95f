"""Models to be measured, on disk: made by `prepare` wherever there are its libraries, read wherever there is a GPU.

DIR/minilm/float32/manifest.json …   a bundle for each precision
DIR/minilm/float32.pt2               the same for PyTorch, where it could be exported (float32, float16)
DIR/minilm/reference.npz             items, and their vectors from the float32 bundle on a CPU
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedge.backends import Arrays, BackendModel
from embedge.batches.batch import Batch, Row
from embedge.batches.probes import Probes
from embedge.bundle import Bundle
from embedge.bundle.part_specs import TextPrepare
from embedge.config import RuntimeConfig
from embedge.errors import NotFound
from embedge.inputs.items import ItemInput

__all__ = ["PRECISIONS", "Case", "Items", "find", "model_of", "refer", "tower_of"]

PRECISIONS = ("float32", "float16", "bfloat16")
REFERENCE = "reference.npz"


@dataclass(frozen=True)
class Case:
    """One model on disk."""

    name: str
    folder: Path

    @property
    def bundles(self) -> dict[str, Path]:
        """The bundles by precision."""
        return {each: self.folder / each for each in PRECISIONS if (self.folder / each / "manifest.json").exists()}

    def program(self, precision: str) -> Path | None:
        """Return PyTorch's program of this precision; None if it has none."""
        path = self.folder / f"{precision}.pt2"
        return path if path.exists() else None

    def reference(self) -> tuple[list[Batch], NDArray[np.float32]]:
        """Return items, each a batch of one row, and their reference vectors, `(n, dim)`."""
        with np.load(self.folder / REFERENCE) as kept:
            rows: list[dict[str, NDArray[np.generic]]] = [{} for _ in kept["lengths"]]
            for key in kept.files:
                number, _, name = key.partition(":")
                if name:
                    rows[int(number)][name] = kept[key]
            tower = str(kept["tower"])
            lone = [Batch([tower], [row], [int(size)]) for row, size in zip(rows, kept["lengths"], strict=True)]
            return lone, kept["truth"]


def find(folder: Path) -> list[Case]:
    """Return the models in a folder.

    Raises:
        NotFound: It has none.
    """
    found = [Case(path.parent.name, path.parent) for path in sorted(folder.glob(f"*/{REFERENCE}"))]
    if not found:
        raise NotFound(f"{folder}: no models here; make them with: python -m benchmarks.gpu.prepare DIR")
    return found


def tower_of(bundle: Bundle) -> str:
    """Return the name of the measured tower: the first."""
    return next(iter(bundle.manifest.towers))


def model_of(path: Path, config: RuntimeConfig) -> BackendModel:
    """Return the first tower of a bundle, in the form that backends load."""
    bundle = Bundle.load(path)
    tower = tower_of(bundle)
    probes = Probes(bundle.manifest, {tower: ItemInput.of(bundle, tower, config).probe()})
    return BackendModel(bundle, config, tuple(bundle.manifest.towers[tower].graphs), probes)


class Items:
    """Draws random items of a model's tower; the same seed gives the same items."""

    def __init__(self, model: BackendModel) -> None:
        self._model = model
        self.tower = next(iter(model.probes.towers))
        self._words: dict[str, int] = {}  # by input of tokens, how many there are
        for part in model.probes.towers[self.tower].parts.values():
            if isinstance(part.prepare, TextPrepare):
                tokenizer = Tokenizer.from_file(str(model.bundle.file(part.prepare.tokenizer)))
                self._words[part.prepare.inputs["ids"]] = tokenizer.get_vocab_size()

    def longest(self, length: int) -> int:
        """Return this length, at most the tower's maximum; its only length, if it has one."""
        form = self._model.probes.layouts[self.tower]
        if not form.varies:
            return self._model.probes.width(self.tower)
        return min([length, *(fill.most for fill in form.fills.values() if fill.most is not None)])

    def batch(self, rows: int, length: int, *, seed: int, least: int | None = None) -> Batch:
        """Return a batch of `rows` items, the first of this length, the others of `least` (the same) up to it."""
        random = np.random.default_rng(seed)
        longest = self.longest(length)
        lengths = [longest, *map(int, random.integers(min(least or longest, longest), longest + 1, rows - 1))]
        return Batch([self.tower] * rows, [self._row(size, random) for size in lengths], lengths)

    def feeds(self, batch: Batch, length_multiple: int = 1) -> Arrays:
        """Return the batch's arrays, padded."""
        return self._model.probes.feeds(batch, length_multiple)

    def _row(self, length: int, random: np.random.Generator) -> Row:
        row = self._model.probes.batch(self.tower, 1, length).rows[0]
        return {name: self._drawn(name, array, random) for name, array in row.items()}

    def _drawn(self, name: str, array: NDArray[np.generic], random: np.random.Generator) -> NDArray[np.generic]:
        if name in self._words:
            return random.integers(0, self._words[name], array.shape).astype(array.dtype)
        if array.dtype == np.uint8:
            return random.integers(0, 256, array.shape, np.uint8)
        if array.dtype.kind == "f":
            return random.standard_normal(array.shape).astype(array.dtype)
        return array


def refer(folder: Path, items: Sequence[Batch], truth: NDArray[np.float32]) -> None:
    """Write items, each a batch of one row, and their vectors, `(n, dim)`."""
    arrays = {f"{number}:{name}": array for number, each in enumerate(items) for name, array in each.rows[0].items()}
    lengths = np.array([each.width for each in items])
    np.savez(folder / REFERENCE, allow_pickle=False, tower=items[0].towers[0], lengths=lengths, truth=truth, **arrays)

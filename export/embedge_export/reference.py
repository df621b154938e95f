"""The reference: items for every tower, and the results that the original model computes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from embedge.arrays import Array
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.verify import Golden, Pairs, contents
from embedge_export import corpus
from embedge_export.errors import ExportError
from embedge_export.model import SampleSource, SourceModel, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.samples.items import items_of

__all__ = ["Reference", "run_reference"]

# Golden pairs of one tower take at most this much, before compression.
_GOLDEN_BYTES = 16 << 20


@dataclass(frozen=True)
class Reference:
    """Results of the original model.

    Attributes:
        golden: Items of every tower, each with its results.
        corpus: Where the items come from, for the certificate.
    """

    golden: Golden
    corpus: str

    def thinned(self, count: int) -> Golden:
        """Return at most `count` pairs of each tower, evenly spread: the golden pairs stored in the bundle."""
        return Golden({name: _thin(pairs, count) for name, pairs in self.golden.towers.items()})


def run_reference(model: SourceModel, recipe: Recipe) -> Reference:
    """Run the original model on items for every tower.

    Args:
        model: The model, with its originals.
        recipe: Names the corpus and the number of items.

    Raises:
        ExportError: The original failed, or its results are not finite, missing, or of another size than declared.
    """
    texts: list[str] = []
    used: list[str] = []
    built_in = [tower for tower in model.towers.values() if tower.samples is None]
    specs = [part.prepare for tower in built_in for part in tower.parts.values()]
    if any(isinstance(spec, TextPrepare) for spec in specs):
        texts, name = corpus.load(recipe.corpus, recipe.gate.items)
        used.append(name)
    if not all(isinstance(spec, TextPrepare) for spec in specs):
        used.append("made-up media and numbers")
    if len(built_in) < len(model.towers):
        used.append("samples of the source's own")
    golden = Golden({name: _run(name, model.towers, texts, recipe.gate.items) for name in model.towers})
    _check_dims(model, golden)
    return Reference(golden, ", ".join(used))


def _run(name: str, towers: Mapping[str, TowerSource], texts: list[str], count: int) -> Pairs:
    tower = towers[name]
    items = _items(name, towers, texts, count)
    found: dict[str, list[Any]] = {output: [] for output in tower.outputs}
    for item in items:
        results = _call(tower, item)
        for output, rows in found.items():
            if output not in results:
                raise ExportError(
                    f"the original of tower {name!r} returns no {output!r}; it returns {', '.join(results)}"
                )
            rows.append(_row(results[output], f"{name}.{output}", item))
    return Pairs(items, found)


def _call(tower: TowerSource, item: Mapping[str, Any]) -> Mapping[str, Array]:
    try:
        return tower.original(next(iter(item.values())) if len(tower.parts) == 1 else item)
    except Exception as error:  # whatever the original model raises
        raise ExportError(f"the original model cannot embed {_label(item)}: {error}{_advice(tower)}") from error


def _row(result: Array, name: str, item: Mapping[str, Any]) -> Array:
    row = np.asarray(result)
    if not np.isfinite(row).all():
        raise ExportError(
            f"the original model returns results of {name} that are not finite, for {_label(item)}; "
            "a bundle cannot be compared with them"
        )
    return row.astype(np.float32) if row.dtype.kind == "f" else row


def _items(name: str, towers: Mapping[str, TowerSource], texts: list[str], count: int) -> list[Mapping[str, Any]]:
    def pieces(other: str) -> list[Any]:
        items = _items(other, towers, texts, count)
        return [next(iter(item.values())) for item in items] if len(towers[other].parts) == 1 else items

    tower = towers[name]
    if tower.samples is None:
        return [*items_of(tower.parts, texts, count, pieces)]
    return [_by_part(item, tower) for item in _custom_samples(name, tower.samples, count)]


def _custom_samples(name: str, samples: SampleSource, count: int) -> Sequence[Any]:
    try:
        return list(samples(count))
    except ExportError:
        raise
    except Exception as error:  # the recipe's own code
        raise ExportError(f"the samples of tower {name!r} cannot be made: {type(error).__name__}: {error}") from error


def _by_part(item: Any, tower: TowerSource) -> Mapping[str, Any]:
    named = isinstance(item, Mapping) and set(item) <= set(tower.parts)
    return item if named else {next(iter(tower.parts)): item}


def _label(item: Mapping[str, Any]) -> str:
    return ", ".join(map(contents.label, item.values()))


def _advice(tower: TowerSource) -> str:
    lengths = [part.prepare.max_length for part in tower.parts.values() if isinstance(part.prepare, TextPrepare)]
    return f"; check whether it accepts max_length {lengths[0]}" if lengths else ""


def _check_dims(model: SourceModel, golden: Golden) -> None:
    """Raise ExportError where the original's vectors have another size than their output declares."""
    for name, tower in model.towers.items():
        for output, spec in tower.outputs.items():
            if not isinstance(spec, (DenseOutput, MultiVectorOutput)):
                continue
            for row in golden.towers[name].outputs[output]:
                if row.ndim and row.shape[-1] != spec.dim:
                    raise ExportError(
                        f"tower {name!r}: outputs.{output} declares dim {spec.dim}, the module returns {row.shape[-1]}"
                    )


def _thin(pairs: Pairs, count: int) -> Pairs:
    sizes = [sum(map(contents.size, item.values())) for item in pairs.items]
    sizes = [size + sum(rows[row].nbytes for rows in pairs.outputs.values()) for row, size in enumerate(sizes)]
    rows = corpus.thin(range(len(sizes)), count)
    while len(rows) > 1 and sum(sizes[row] for row in rows) > _GOLDEN_BYTES:
        rows = corpus.thin(range(len(sizes)), len(rows) - 1)
    return pairs.take(rows)

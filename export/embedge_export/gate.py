"""The gate: a staged bundle must give the original model's results, as the runtime runs it, or it does not leave."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from embedge.bundle import Bundle
from embedge.bundle.manifest import Certificate, Manifest, Metric
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.content import Text
from embedge.verify import Golden, Pairs, contents, measure, prefixes
from embedge_export import corpus
from embedge_export.errors import ExportError, GateMiss
from embedge_export.model import SampleSource, SourceModel, TowerSource
from embedge_export.recipe import Recipe
from embedge_export.samples.items import items_of
from embedge_export.sources.tokenizer import known_share

__all__ = ["ask_original", "pass_gate", "thin"]

# Golden pairs of one tower take at most this much, before they are compressed.
_GOLDEN_BYTES = 16 << 20

# Far above what float32 leaves of a division by the length, and far below what a search would notice.
_LENGTH_ERROR = 1e-3


def ask_original(model: SourceModel, recipe: Recipe) -> tuple[Golden, str]:
    """Return items for every tower with the original model's results, and the corpus's name. Raises ExportError."""
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
    golden = {name: _ask(name, model.towers, texts, recipe.gate.items) for name in model.towers}
    return Golden(golden), ", ".join(used)


def _ask(name: str, towers: Mapping[str, TowerSource], texts: list[str], count: int) -> Pairs:
    tower = towers[name]
    items = _items(name, towers, texts, count)
    single = len(tower.parts) == 1
    found: dict[str, list[Any]] = {output: [] for output in tower.outputs}
    for item in items:
        try:
            results = tower.original(next(iter(item.values())) if single else item)
        except Exception as error:  # whatever the original model raises
            raise ExportError(f"the original model cannot embed {_label(item)}: {error}{_advice(tower)}") from error
        for output, rows in found.items():
            if output not in results:
                raise ExportError(f"the original of tower {name!r} gives {', '.join(results)}, but no {output!r}")
            row = np.asarray(results[output])
            if not np.isfinite(row).all():
                raise ExportError(
                    f"the original model gives results of {name}.{output} that are not finite, for {_label(item)}; "
                    "there is nothing to hold a bundle against"
                )
            rows.append(row.astype(np.float32) if row.dtype.kind == "f" else row)
    return Pairs(items, found)


def _items(name: str, towers: Mapping[str, TowerSource], texts: list[str], count: int) -> list[Mapping[str, Any]]:
    def pieces(other: str) -> list[Any]:
        items = _items(other, towers, texts, count)
        return [next(iter(item.values())) for item in items] if len(towers[other].parts) == 1 else items

    tower = towers[name]
    if tower.samples is None:
        return [*items_of(tower.parts, texts, count, pieces)]
    return [_by_part(item, tower) for item in _own_samples(name, tower.samples, count)]


def _own_samples(name: str, samples: SampleSource, count: int) -> Sequence[Any]:
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
    limits = [part.prepare.max_length for part in tower.parts.values() if isinstance(part.prepare, TextPrepare)]
    return f"; is max_length {limits[0]} more than it takes?" if limits else ""


def thin(golden: Golden, count: int) -> Golden:
    """Return at most `count` pairs of each tower, evenly spread: the golden pairs that travel in the bundle."""
    return Golden({name: _thin(pairs, count) for name, pairs in golden.towers.items()})


def _thin(pairs: Pairs, count: int) -> Pairs:
    sizes = [sum(map(contents.size, item.values())) for item in pairs.items]
    sizes = [size + sum(rows[row].nbytes for rows in pairs.outputs.values()) for row, size in enumerate(sizes)]
    rows = corpus.thin(range(len(sizes)), count)
    while len(rows) > 1 and sum(sizes[row] for row in rows) > _GOLDEN_BYTES:
        rows = corpus.thin(range(len(sizes)), len(rows) - 1)
    return pairs.take(rows)


def pass_gate(staged: Path, golden: Golden, recipe: Recipe, *, corpus_name: str) -> Certificate:
    """Return the certificate of the bundle in `staged`. Raises GateMiss if a figure misses its limit."""
    bundle = Bundle.load(staged)
    limits = recipe.gate.at(recipe.precision)
    measured = measure(bundle, golden, limits.limits(prefixes(bundle.manifest).values()), corpus=corpus_name)
    # Parity cannot see a wrong vocabulary: both sides would read the same unknown tokens.
    known = {
        name: Metric(value=share, limit=limits.limit("known_tokens", name), better="higher")
        for name, share in _known(bundle.manifest, golden, staged)
    }
    certificate = msgspec.structs.replace(measured, figures={**measured.figures, **known})
    if not certificate.passed:
        raise GateMiss(certificate)
    _check_lengths(bundle.manifest, golden)
    return certificate


def _check_lengths(manifest: Manifest, golden: Golden) -> None:
    """Raise ExportError where vectors are said to be of length 1 and are not: parity cannot see what is only said."""
    for name in golden.towers:
        for output, spec in manifest.towers[name].outputs.items():
            if not (isinstance(spec, (DenseOutput, MultiVectorOutput)) and spec.normalized):
                continue
            for row in golden.towers[name].outputs[output]:
                lengths = np.linalg.norm(row, axis=-1)
                if (np.abs(lengths - 1) > _LENGTH_ERROR).any():
                    raise ExportError(
                        f"output {output!r} of tower {name!r} is said to be normalized, and has a vector of length "
                        f"{lengths.flat[np.abs(lengths - 1).argmax()]:.4g}; say normalized = false, or scale it: "
                        "normalize = true in the table of a tower with a module"
                    )


def _known(manifest: Manifest, golden: Golden, staged: Path) -> Iterator[tuple[str, float]]:
    """Yield for each text tower the figure's name, and the share of its tokens that the tokenizer knows."""
    for name in golden.towers:
        for part, spec in manifest.towers[name].parts.items():
            if isinstance(spec.prepare, TextPrepare):
                texts = [item[part] for item in golden.towers[name].items if part in item]
                plain = [text.text if isinstance(text, Text) else text for text in texts]
                tokenizer = (staged / spec.prepare.tokenizer).read_text(encoding="utf-8")
                own = "known_tokens" if "" in prefixes(manifest).values() else f"{name}.known_tokens"
                yield own, known_share(tokenizer, plain)

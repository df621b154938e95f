"""The gate: compares a staged bundle, run by the runtime, with the original model, and refuses it if a check fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from embedge.bundle import Bundle
from embedge.bundle.manifest import Certificate, Manifest, Metric
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput
from embedge.bundle.part_specs import TextPrepare
from embedge.content import Text
from embedge.errors import BundleError
from embedge.verify import Golden, measure, prefixes
from embedge_export.errors import ExportError, GateMiss
from embedge_export.recipe import Recipe
from embedge_export.reference import Reference
from embedge_export.sources.tokenizer import known_share

__all__ = ["pass_gate"]

# Far above the float32 rounding of a division by the length, and far below anything that changes a search.
_LENGTH_ERROR = 1e-3


def pass_gate(staged: Path, reference: Reference, recipe: Recipe) -> Certificate:
    """Return the certificate of the bundle in `staged`.

    Raises:
        GateMiss: A metric misses its threshold.
        ExportError: Vectors are not of length 1 although their output is declared normalized, or the graph cannot run
            on this machine.
    """
    bundle = Bundle.load(staged)
    certificate = _measure(bundle, reference, recipe)
    if not certificate.passed:
        raise GateMiss(certificate)
    _check_lengths(bundle.manifest, reference.golden)
    return certificate


def _measure(bundle: Bundle, reference: Reference, recipe: Recipe) -> Certificate:
    gate = recipe.gate.at(recipe.precision)
    thresholds = gate.thresholds(prefixes(bundle.manifest).values())
    try:
        measured = measure(bundle, reference.golden, thresholds, corpus=reference.corpus)
    except BundleError as error:
        if recipe.precision != "bfloat16":
            raise
        raise ExportError(
            "a bfloat16 graph does not run here, so nothing can be proven; export it on a machine with a GPU, or as "
            f"float16 ({error})"
        ) from error
    # Parity cannot detect a wrong vocabulary: both sides would read the same unknown tokens.
    known = {
        name: Metric(value=share, threshold=gate.threshold("known_tokens", name), better="higher")
        for name, share in _known_tokens(bundle, reference.golden)
    }
    return msgspec.structs.replace(measured, metrics={**measured.metrics, **known})


def _check_lengths(manifest: Manifest, golden: Golden) -> None:
    """Raise ExportError where vectors are declared normalized and are not: parity cannot detect that."""
    for name, pairs in golden.towers.items():
        for output, spec in manifest.towers[name].outputs.items():
            if not (isinstance(spec, (DenseOutput, MultiVectorOutput)) and spec.normalized):
                continue
            for row in pairs.outputs[output]:
                lengths = np.linalg.norm(row, axis=-1)
                if (np.abs(lengths - 1) > _LENGTH_ERROR).any():
                    raise ExportError(
                        f"output {output!r} of tower {name!r} is declared normalized, but has a vector of length "
                        f"{lengths.flat[np.abs(lengths - 1).argmax()]:.4g}; set normalized = false, or scale it: "
                        "normalize = true in the table of a tower with a module"
                    )


def _known_tokens(bundle: Bundle, golden: Golden) -> Iterator[tuple[str, float]]:
    """Yield each text tower's metric name, and the share of its tokens that the tokenizer knows."""
    single = "" in prefixes(bundle.manifest).values()
    for name, pairs in golden.towers.items():
        for part, spec in bundle.manifest.towers[name].parts.items():
            if isinstance(spec.prepare, TextPrepare):
                texts = [item[part] for item in pairs.items if part in item]
                plain = [text.text if isinstance(text, Text) else text for text in texts]
                tokenizer = (bundle.path / spec.prepare.tokenizer).read_text(encoding="utf-8")
                yield "known_tokens" if single else f"{name}.known_tokens", known_share(tokenizer, plain)

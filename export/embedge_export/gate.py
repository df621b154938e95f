"""The gate: a staged bundle must give the original model's vectors, as the runtime runs it, or it does not leave."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from embedge.bundle import Bundle
from embedge.manifest import Certificate, Figure
from embedge.verify import Golden, measure
from embedge_export import corpus
from embedge_export.bundle import TOKENIZER
from embedge_export.errors import ExportError, GateMiss
from embedge_export.recipe import Recipe
from embedge_export.sources.base import Encoder
from embedge_export.sources.tokenizer import known_share

__all__ = ["ask_original", "pass_gate", "thin"]


def ask_original(encoder: Encoder, recipe: Recipe) -> tuple[Golden, str]:
    """Return the corpus with the original model's vectors, and the corpus's name. Raises ExportError."""
    texts, name = corpus.load(recipe.corpus, recipe.gate.items)
    try:
        vectors = encoder.encode(texts)
    except Exception as error:  # whatever the original model raises
        limit = f"is max_length {encoder.max_length} more than it takes?"
        raise ExportError(f"the original model cannot embed the corpus: {error}; {limit}") from error
    if not np.isfinite(vectors).all():
        raise ExportError(
            "the original model gives vectors that are not finite; there is nothing to hold a bundle against"
        )
    return Golden(texts, vectors), name


def thin(pairs: Golden, count: int) -> Golden:
    """Return at most `count` of the pairs, evenly spread: the golden pairs that travel in the bundle."""
    rows = corpus.thin(range(len(pairs.texts)), count)
    return Golden([pairs.texts[row] for row in rows], pairs.vectors[rows])


def pass_gate(staged: Path, pairs: Golden, recipe: Recipe, *, corpus_name: str) -> Certificate:
    """Return the certificate of the bundle in `staged`. Raises GateMiss if a figure misses its limit."""
    measured = measure(Bundle.load(staged), pairs, recipe.gate.limits(), corpus=corpus_name)
    # Parity cannot see a wrong vocabulary: both sides would read the same unknown tokens.
    share = known_share((staged / TOKENIZER).read_text(encoding="utf-8"), pairs.texts)
    known = Figure(value=share, limit=recipe.gate.known_tokens, better="higher")
    certificate = msgspec.structs.replace(measured, figures={**measured.figures, "known_tokens": known})
    if not certificate.passed:
        raise GateMiss(certificate)
    return certificate

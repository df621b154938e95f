"""Measure a bundle as the runtime runs it on this device."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedge.bundle import Bundle
from embedge.bundle.manifest import Certificate
from embedge.calls.sets import Sets, set_part
from embedge.config import RuntimeConfig
from embedge.embedder import Embedder
from embedge.errors import BundleError
from embedge.request import Request, raise_item_errors
from embedge.verify.bench import Bench
from embedge.verify.compare import rows
from embedge.verify.golden import Golden, Pairs
from embedge.verify.metrics import Metrics

__all__ = ["measure", "verify"]


def verify(path: str | Path, *, config: RuntimeConfig | None = None) -> Certificate:
    """Measure a bundle on this device against its golden pairs, with the thresholds of its export.

    Args:
        path: bundle directory, or model directory (its newest version).
        config: settings to run with. By default those of a server, without warm-up.

    Returns:
        A new certificate. A metric that misses its threshold isn't an error: see `Certificate.passed`.

    Raises:
        BundleError: the bundle can't be loaded or has no certificate.
    """
    bundle = Bundle.load(path)
    certificate = bundle.manifest.certificate
    if certificate is None:
        raise BundleError(f"{bundle.path}: the bundle has no certificate, so no thresholds; export it again")
    golden = Golden.read(bundle)
    thresholds = {name: metric.threshold for name, metric in certificate.metrics.items()}
    return measure(bundle, golden, thresholds, corpus="golden pairs", config=config)


def measure(
    bundle: Bundle,
    golden: Golden,
    thresholds: Mapping[str, float],
    *,
    corpus: str,
    config: RuntimeConfig | None = None,
) -> Certificate:
    """Measure a bundle on this device against results of the original.

    Parity and retrieval go through the `Embedder`. Invariance needs control over batches and uses the backend.

    Args:
        bundle: the bundle to run.
        golden: items and the original's results, for the towers to measure.
        thresholds: threshold by full metric name, such as `text.dense.cosine_min`; others aren't measured.
        corpus: name of the corpus, for the certificate.
        config: settings to run with.

    Raises:
        BundleError: results and golden pairs differ in shape.
        BackendError: a batch can't be computed.
    """
    # Warm-up only measures costs, and no metric depends on them.
    config = config or RuntimeConfig(warm_up_seconds=0)
    with Embedder(bundle, config) as embedder:
        ours = {tower: _results(embedder, tower, pairs) for tower, pairs in golden.towers.items()}
        backend, device = embedder.backend, embedder.device
        plain = {tower: _with_sets(embedder, tower, pairs) for tower, pairs in golden.towers.items()}
    _check_shapes(bundle, golden, ours)
    metrics = Metrics(bundle.manifest, golden, thresholds)
    metrics.parity(ours)
    metrics.retrieval(ours)
    for tower, pairs in plain.items():
        with closing(Bench(bundle, tower, pairs, config)) as bench:
            metrics.invariance(tower, bench)
    return Certificate(
        metrics=metrics.sorted(),
        items=sum(len(pairs.items) for pairs in golden.towers.values()),
        corpus=corpus,
        device=f"{device}, {platform.machine()} {platform.system()}",
        backend=backend,
        versions={"numpy": np.__version__, "python": platform.python_version()},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _results(embedder: Embedder, tower: str, pairs: Pairs) -> dict[str, list[NDArray[Any]]]:
    """Embed a tower's items and return the rows by output. Raises the first item's error."""
    names = tuple(pairs.outputs)
    reply = embedder.run(Request(items=pairs.items, tower=tower, outputs=names, truncate=True))
    raise_item_errors(reply.errors, len(pairs.items))
    return {name: rows(reply.outputs[name]) for name in names}


def _with_sets(embedder: Embedder, tower: str, pairs: Pairs) -> Pairs:
    """Replace the pieces of sets with their vectors, as graphs take them. Raises a bad piece's error."""
    spec = embedder.towers[tower]
    name = set_part(spec)
    if name is None:
        return pairs
    sets = Sets(Request(items=pairs.items, tower=tower, truncate=True), spec)
    request = sets.request()
    reply = embedder.run(request)
    raise_item_errors(reply.errors, len(request.items))
    items = [item if isinstance(item, dict) else {name: item} for item in sets.gathered(reply)]
    return Pairs(items, pairs.outputs)


def _check_shapes(bundle: Bundle, golden: Golden, ours: Mapping[str, Mapping[str, Sequence[NDArray[Any]]]]) -> None:
    """Raise BundleError if results and golden pairs differ in shape."""
    for tower, pairs in golden.towers.items():
        for name, theirs in pairs.outputs.items():
            for found, wanted in zip(ours[tower][name], theirs, strict=True):
                if found.shape[-1:] != wanted.shape[-1:] or found.ndim != wanted.ndim:
                    raise BundleError(
                        f"{bundle.path}: output {tower}.{name} gives an item the shape {found.shape}, the original "
                        f"{wanted.shape}; export the bundle again"
                    )

"""Measures a bundle as the runtime runs it on this device."""

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
from embedge.verify.figures import Figures
from embedge.verify.golden import Golden, Pairs

__all__ = ["measure", "verify"]


def verify(path: str | Path, *, config: RuntimeConfig | None = None) -> Certificate:
    """Measure the bundle at `path` on this device against its golden pairs, with the limits it was exported under.

    Raises BundleError for a bundle that cannot be loaded. A figure that misses its limit is no error: see `passed`.
    """
    bundle = Bundle.load(path)
    certificate = bundle.manifest.certificate
    if certificate is None:
        raise BundleError(f"{bundle.path}: the bundle has no certificate, so no limits; export it again")
    golden = Golden.read(bundle)
    limits = {name: figure.limit for name, figure in certificate.figures.items()}
    return measure(bundle, golden, limits, corpus="golden pairs", config=config)


def measure(
    bundle: Bundle,
    golden: Golden,
    limits: Mapping[str, float],
    *,
    corpus: str,
    config: RuntimeConfig | None = None,
) -> Certificate:
    """Return the figures named in `limits`, as the runtime gives them on this device.

    Parity and retrieval go through the `Embedder`; the invariances need control over batches and use the backend.
    """
    # Warm-up only measures costs, which no figure is about.
    config = config or RuntimeConfig(warm_up_seconds=0)
    with Embedder(bundle, config) as embedder:
        ours = {tower: _results(embedder, tower, pairs) for tower, pairs in golden.towers.items()}
        backend, device = embedder.backend, embedder.device
        plain = {tower: _gathered(embedder, tower, pairs) for tower, pairs in golden.towers.items()}
    _check_shapes(bundle, golden, ours)
    figures = Figures(bundle.manifest, golden, limits)
    figures.parity(ours)
    figures.retrieval(ours)
    for tower, pairs in plain.items():
        with closing(Bench(bundle, tower, pairs, config)) as bench:
            figures.invariance(tower, bench)
    return Certificate(
        figures=figures.sorted(),
        items=sum(len(pairs.items) for pairs in golden.towers.values()),
        corpus=corpus,
        device=f"{device}, {platform.machine()} {platform.system()}",
        backend=backend,
        versions={"numpy": np.__version__, "python": platform.python_version()},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _results(embedder: Embedder, tower: str, pairs: Pairs) -> dict[str, list[NDArray[Any]]]:
    """Return what the embedder gives for a tower's items, by output. Raises the first item's error."""
    names = tuple(pairs.outputs)
    reply = embedder.run(Request(items=pairs.items, tower=tower, outputs=names, truncate=True))
    raise_item_errors(reply.errors, len(pairs.items))
    return {name: rows(reply.outputs[name]) for name in names}


def _gathered(embedder: Embedder, tower: str, pairs: Pairs) -> Pairs:
    """Return the pairs with vectors in place of the pieces of sets, which a graph takes. Raises a bad piece's error."""
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
    """Raise BundleError for golden pairs that no result of the bundle can be held against."""
    for tower, pairs in golden.towers.items():
        for name, theirs in pairs.outputs.items():
            for found, wanted in zip(ours[tower][name], theirs, strict=True):
                if found.shape[-1:] != wanted.shape[-1:] or found.ndim != wanted.ndim:
                    raise BundleError(
                        f"{bundle.path}: output {tower}.{name} gives an item the shape {found.shape}, the original "
                        f"{wanted.shape}; export the bundle again"
                    )

"""Measures a bundle as the runtime runs it on this device."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from embedge.bundle import Bundle
from embedge.config import RuntimeConfig
from embedge.embedder import Embedder
from embedge.errors import BundleError
from embedge.manifest import Certificate
from embedge.verify.bench import Bench
from embedge.verify.figures import Figures
from embedge.verify.golden import Golden

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
        ours = np.asarray(embedder.embed(golden.texts, truncate=True), dtype=np.float32)
        backend = embedder.backend
    figures = Figures(limits)
    if ours.shape != golden.vectors.shape:
        raise BundleError(
            f"{bundle.path}: vectors of {ours.shape[1]} numbers, the original gives {golden.vectors.shape[1]}"
        )
    figures.parity(golden, ours)
    figures.retrieval(golden, ours)
    with closing(Bench(bundle, golden.texts, config)) as bench:
        figures.invariance(bench)
    return Certificate(
        figures=figures.taken,
        items=len(golden.texts),
        corpus=corpus,
        device=f"{platform.machine()} {platform.system()}",
        backend=backend,
        versions={"numpy": np.__version__, "python": platform.python_version()},
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )

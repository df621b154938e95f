"""Adds towers to a bundle: the old content and metrics stay as they are, and only new towers go through the gate."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from embedge.bundle import Bundle, sha256
from embedge.bundle import manifest as manifests
from embedge.bundle.manifest import Certificate, Manifest, Provenance, Space
from embedge.bundle.output_specs import ScoresOutput
from embedge.verify import Golden, prefixes
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel, SpaceSource

__all__ = ["BaseBundle"]


@dataclass(frozen=True)
class BaseBundle:
    """The bundle to extend, checked against its hashes, and its golden pairs."""

    bundle: Bundle
    golden: Golden

    @classmethod
    def open(cls, path: str) -> BaseBundle:
        """Open a bundle. Raises BundleError if it is damaged, ExportError if it has no certificate."""
        bundle = Bundle.load(path)
        if bundle.manifest.certificate is None:
            raise ExportError(f"{bundle.path}: the bundle has no certificate; export it again before you extend it")
        return cls(bundle, Golden.read(bundle))

    def spaces(self) -> dict[str, SpaceSource]:
        """Return the bundle's spaces by id, and by `tower.output` for every output in them."""
        found = {key: _space(space) for key, space in self.bundle.manifest.spaces.items()}
        for name, tower in self.bundle.manifest.towers.items():
            for key, output in tower.outputs.items():
                if not isinstance(output, ScoresOutput):
                    found[f"{name}.{key}"] = found[output.space]
        return found

    def check(self, model: SourceModel, labels: Mapping[str, object]) -> None:
        """Raise ExportError if the model reuses a name of the bundle."""
        there = self.bundle.manifest
        steps = {step.name for tower in model.towers.values() for step in (*tower.modules, *tower.steps) if step.graph}
        whole = {name for name, tower in model.towers.items() if tower.graph is not None}
        for what, new, old in (
            ("tower", model.towers.keys(), there.towers.keys()),
            ("graph", steps | whole, there.graphs.keys()),
            ("label set", {*model.label_sets, *labels}, there.label_sets.keys()),
        ):
            if both := sorted(new & old):
                raise ExportError(f"{self.bundle.path}: it already has a {what} {both[0]!r}; choose another name")
        for name, content in model.files.items():
            if name in there.files and self.bundle.file(name).read_bytes() != content:
                raise ExportError(f"{self.bundle.path}: the bundle has another file {name!r}; choose another name")

    def copy(self, staged: Path) -> None:
        """Copy graphs and files unchanged; external weights are among the files."""
        there = self.bundle.manifest
        for name in (*(graph.file for graph in there.graphs.values()), *there.files):
            if name != there.golden:
                shutil.copyfile(self.bundle.file(name), staged / name)

    def merged(self, new: Manifest) -> Manifest:
        """Return the manifest of both, without a certificate. Its files are those of `new`, which cover both."""
        old = self.bundle.manifest
        return msgspec.structs.replace(
            new,
            provenance=_both(old, new.provenance, sha256(self.bundle.path / manifests.FILE_NAME)),
            spaces={**old.spaces, **{key: each for key, each in new.spaces.items() if key not in old.spaces}},
            graphs={**old.graphs, **new.graphs},
            towers={**old.towers, **new.towers},
            label_sets={**old.label_sets, **new.label_sets},
        )

    def certified(self, merged: Manifest, new: Certificate) -> Certificate:
        """Return the certificate of both: old metrics keep their values, with names for several towers."""
        old = self.bundle.manifest
        kept = old.certificate
        if kept is None:
            raise ExportError(f"{self.bundle.path}: the bundle has no certificate")
        metrics = {_renamed(name, old, merged): metric for name, metric in kept.metrics.items()}
        corpus = kept.corpus if kept.corpus == new.corpus else f"{kept.corpus}; {new.corpus}"
        return msgspec.structs.replace(
            new, metrics={**metrics, **new.metrics}, items=kept.items + new.items, corpus=corpus
        )


def _renamed(metric: str, old: Manifest, merged: Manifest) -> str:
    """Return a metric's full name among more towers: that of a single output had no prefix before."""
    pair, prefix = next(iter(prefixes(old).items()))
    if prefix:
        return metric
    return f"{pair[0]}.{metric}" if metric == "known_tokens" else prefixes(merged)[pair] + metric


def _space(space: Space) -> SpaceSource:
    return SpaceSource(
        definition={},
        id=space.id,
        dim=space.dim,
        metric=space.metric,
        scale=space.scale,
        bias=space.bias,
        lineage=space.lineage,
    )


def _both(old: Manifest, new: Provenance, digest: str) -> Provenance:
    """Return the provenance of both. `digest` is the hash of the old manifest, for its details."""
    before = old.provenance
    return msgspec.structs.replace(
        new,
        source=", ".join(filter(None, dict.fromkeys((before.source, new.source)))),
        revision=before.revision or new.revision,
        hashes={**before.hashes, **new.hashes, f"{old.name}/{old.version}/{manifests.FILE_NAME}": digest},
        tools={**before.tools, **new.tools},
    )

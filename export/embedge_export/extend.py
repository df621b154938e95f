"""A bundle with more towers: what it has stays, byte for byte and with its figures, and only new towers are proven."""

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
    """The bundle that is extended, checked against its hashes, and its golden pairs."""

    bundle: Bundle
    golden: Golden

    @classmethod
    def open(cls, path: str) -> BaseBundle:
        """Raises BundleError for a bundle that is damaged, ExportError for one that was never proven."""
        bundle = Bundle.load(path)
        if bundle.manifest.certificate is None:
            raise ExportError(f"{bundle.path}: the bundle has no certificate; export it again before it is extended")
        return cls(bundle, Golden.read(bundle))

    def spaces(self) -> dict[str, SpaceSource]:
        """Return its spaces as those of a model, by id, and by `tower.output` of every output in them."""
        found = {key: _space(space) for key, space in self.bundle.manifest.spaces.items()}
        for name, tower in self.bundle.manifest.towers.items():
            for key, output in tower.outputs.items():
                if not isinstance(output, ScoresOutput):
                    found[f"{name}.{key}"] = found[output.space]
        return found

    def check(self, model: SourceModel, labels: Mapping[str, object]) -> None:
        """Raise ExportError where a name of the model is one of the bundle already."""
        there = self.bundle.manifest
        steps = {step.name for tower in model.towers.values() for step in (*tower.modules, *tower.steps) if step.graph}
        whole = {name for name, tower in model.towers.items() if tower.graph is not None}
        for what, new, old in (
            ("tower", model.towers.keys(), there.towers.keys()),
            ("graph", steps | whole, there.graphs.keys()),
            ("label set", {*model.label_sets, *labels}, there.label_sets.keys()),
        ):
            if both := sorted(new & old):
                raise ExportError(f"{self.bundle.path}: it has a {what} {both[0]!r} already; name yours otherwise")
        for name, content in model.files.items():
            if name in there.files and self.bundle.file(name).read_bytes() != content:
                raise ExportError(f"{self.bundle.path}: the bundle has another file {name!r}; name yours otherwise")

    def copy(self, staged: Path) -> None:
        """Copy graphs and files as they are; weights that lie beside a graph are among the files."""
        there = self.bundle.manifest
        for name in (*(graph.file for graph in there.graphs.values()), *there.files):
            if name != there.golden:
                shutil.copyfile(self.bundle.file(name), staged / name)

    def merged(self, new: Manifest) -> Manifest:
        """Return the manifest of both, yet without a certificate. Files are those of the new one, as staged."""
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
        """Return the certificate of both: the old towers' figures as they were, by their names among more towers."""
        old = self.bundle.manifest
        kept = old.certificate
        if kept is None:
            raise ExportError(f"{self.bundle.path}: the bundle has no certificate")
        metrics = {_renamed(name, old, merged): metric for name, metric in kept.metrics.items()}
        corpus = kept.corpus if kept.corpus == new.corpus else f"{kept.corpus}; {new.corpus}"
        return msgspec.structs.replace(
            new, metrics={**metrics, **new.metrics}, items=kept.items + new.items, corpus=corpus
        )


def _renamed(figure: str, old: Manifest, merged: Manifest) -> str:
    """Return a figure's full name in a bundle of more towers: one of a single output stood alone before."""
    pair, prefix = next(iter(prefixes(old).items()))
    if prefix:
        return figure
    return f"{pair[0]}.{figure}" if figure == "known_tokens" else prefixes(merged)[pair] + figure


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
    """Return where both came from. digest: of the old manifest, which says more."""
    before = old.provenance
    return msgspec.structs.replace(
        new,
        source=", ".join(filter(None, dict.fromkeys((before.source, new.source)))),
        revision=before.revision or new.revision,
        hashes={**before.hashes, **new.hashes, f"{old.name}/{old.version}/{manifests.FILE_NAME}": digest},
        tools={**before.tools, **new.tools},
    )

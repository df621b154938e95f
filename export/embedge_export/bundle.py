"""Publishes bundles: builds them in a hidden directory, makes them durable, and moves them into place in one step."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256 as new_sha256
from pathlib import Path

from msgspec.structs import replace

from embedge import atomic
from embedge.bundle import manifest as manifests
from embedge.bundle import sha256
from embedge.bundle.manifest import Graph, Manifest, Part, Provenance, Space, Tower
from embedge.bundle.output_specs import ScoresOutput
from embedge.bundle.part_specs import VectorPrepare
from embedge_export.buckets import buckets_of
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel, SpaceSource, TowerSource
from embedge_export.recipe import Recipe

__all__ = [
    "GOLDEN",
    "check_free",
    "describe",
    "publish",
    "space_id",
    "staging",
    "target_of",
]

GOLDEN = "golden.npz"


def target_of(out: Path, recipe: Recipe) -> Path:
    """Return the path of the recipe's bundle: OUT/<name>/<version>."""
    return out / recipe.name / recipe.version


def check_free(target: Path, *, force: bool) -> None:
    """Raise ExportError if `target` is not writable, or holds a bundle and `force` is not set."""
    for place in (target.parent, target.parent.parent):  # the build is in the repository, the rename in the model
        _check_writable(place)
    if target.exists() and not force:
        raise ExportError(f"{target}: a bundle already exists; choose another version, or replace it with --force")


def _check_writable(directory: Path) -> None:
    """Raise ExportError unless `directory` is writable, or can be created."""
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not nearest.is_dir():
        raise ExportError(f"{nearest}: not a directory; choose another place with --out")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise ExportError(f"{nearest}: not writable; change its permissions, or choose another directory with --out")


@contextmanager
def staging(out: Path, recipe: Recipe) -> Iterator[Path]:
    """Yield a hidden directory in `out` to build in, and remove the rest of it at the end.

    It is beside the models, not among the versions: a half-built bundle must never be a model's newest version.
    """
    existed = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{recipe.name}-{recipe.version}.", dir=out))
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if not existed:
            with contextlib.suppress(OSError):  # not empty: the bundle was published
                out.rmdir()


def describe(
    staged: Path,
    model: SourceModel,
    recipe: Recipe,
    graphs: Mapping[str, Graph],
    steps: Mapping[str, tuple[str, ...]],
    provenance: Provenance,
) -> Manifest:
    """Return the manifest of the files in `staged`, without a certificate. `steps` names each tower's graphs."""
    ids = {key: space_id(space) for key, space in model.spaces.items()}
    towers = {name: _tower(tower, steps[name], ids) for name, tower in model.towers.items()}
    used = {output.space for tower in towers.values() for output in tower.outputs.values() if hasattr(output, "space")}
    known = {manifests.FILE_NAME, *(record.file for record in graphs.values())}
    files = sorted(file for file in staged.iterdir() if file.name not in known)
    return Manifest(
        format=manifests.FORMAT,
        name=recipe.name,
        version=recipe.version,
        provenance=provenance,
        spaces={ids[key]: _space(ids[key], space) for key, space in model.spaces.items() if ids[key] in used},
        graphs=dict(graphs),
        towers=towers,
        files={file.name: sha256(file) for file in files},
        label_sets={**model.label_sets, **recipe.labels},
        golden=GOLDEN,
    )


def space_id(space: SpaceSource) -> str:
    """Return the id of a space: equal for equal weights, pooling and projection."""
    if space.id is not None:
        return space.id
    facts = {**space.definition, "dim": space.dim}
    return new_sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _space(key: str, source: SpaceSource) -> Space:
    return Space(
        id=key, dim=source.dim, metric=source.metric, lineage=source.lineage, scale=source.scale, bias=source.bias
    )


def _tower(source: TowerSource, steps: tuple[str, ...], ids: Mapping[str, str]) -> Tower:
    """Return a tower's record, with ids of spaces in place of the source's keys."""
    outputs = {
        name: output if isinstance(output, ScoresOutput) else replace(output, space=ids[output.space])
        for name, output in source.outputs.items()
    }
    parts = {name: _part(part, ids) for name, part in source.parts.items()}
    buckets = source.buckets or buckets_of(source.parts.values())
    return Tower(parts=parts, steps=steps, outputs=outputs, buckets=buckets, chain=source.chain)


def _part(part: Part, ids: Mapping[str, str]) -> Part:
    """Return a part, with the space id of a vector from the model's own spaces."""
    prepare = part.prepare
    if isinstance(prepare, VectorPrepare) and prepare.space is not None and prepare.space in ids:
        return replace(part, prepare=replace(prepare, space=ids[prepare.space]))
    return part


def publish(staged: Path, manifest: Manifest, target: Path, *, force: bool) -> None:
    """Write the manifest, sync all files, and move the bundle into place in one step. Raises ExportError."""
    (staged / manifests.FILE_NAME).write_bytes(manifests.encode(manifest))
    atomic.sync_folder(staged)
    staged.chmod(0o755)  # mkdtemp restricts access to the owner
    check_free(target, force=force)
    existed = target.parent.exists()
    target.parent.mkdir(exist_ok=True)
    try:
        atomic.move_folder(staged, target)  # a bundle that was there goes with `staged`
    except BaseException:
        if not existed:
            with contextlib.suppress(OSError):  # not empty: another process published a version
                target.parent.rmdir()
        raise
    atomic.sync(target.parent)
    atomic.sync(target.parent.parent)

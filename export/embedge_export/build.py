"""From a recipe to a published bundle."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from embedge.bundle import manifest as manifests
from embedge.bundle.manifest import Manifest, Provenance
from embedge.verify import Golden
from embedge_export import bundle, sources
from embedge_export.extend import BaseBundle
from embedge_export.gate import pass_gate
from embedge_export.graph_writer import Graphs
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.reference import Reference, run_reference
from embedge_export.sources.locate import locate, revision_of

__all__ = ["STAGES", "build"]

STAGES = ("load", "run the original", "trace", "gate", "publish")


def build(
    recipe: Recipe,
    out: Path,
    *,
    allow_pickle: bool = False,
    force: bool = False,
    stage: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Manifest]:
    """Build, verify and publish the recipe's bundle. An error or Ctrl-C leaves nothing behind.

    Args:
        recipe: What to build.
        out: The engine repository.
        allow_pickle: Read pickled weights. Unpickling runs code, so use it only for files that you trust.
        force: Replace a bundle of the same version.
        stage: Called with each of STAGES as it begins.

    Returns:
        The bundle's path and its manifest.

    Raises:
        ExportError: The recipe or its source cannot be exported.
        GateMiss: The bundle does not reproduce the original.
    """
    target = bundle.target_of(out, recipe)
    bundle.check_free(target, force=force)
    stage("load")
    old = BaseBundle.open(recipe.extends) if recipe.extends else None
    path = locate(recipe.source, revision=recipe.revision, allow_pickle=allow_pickle) if recipe.source else None
    model = sources.load(path, recipe, allow_pickle=allow_pickle, old=old).only(recipe.towers)
    if old is not None:
        old.check(model, recipe.labels)
    stage("run the original")
    reference = run_reference(model, recipe)
    with bundle.staging(out, recipe) as staged:
        stage("trace")
        manifest = _write(staged, model, recipe, reference, old, _provenance(model, recipe, path))
        stage("gate")
        certificate = pass_gate(staged, reference, recipe)
        if old is not None:
            certificate = old.certified(manifest, certificate)
        stage("publish")
        proven = msgspec.structs.replace(manifest, certificate=certificate)
        bundle.publish(staged, proven, target, force=force)
    return target, proven


def _write(
    staged: Path,
    model: SourceModel,
    recipe: Recipe,
    reference: Reference,
    old: BaseBundle | None,
    provenance: Provenance,
) -> Manifest:
    """Write the bundle's files, those of the bundle it extends included; return the manifest without a certificate."""
    if old is not None:
        old.copy(staged)
    there = old.bundle.manifest.graphs if old else {}
    graphs = Graphs(staged, opset=recipe.opset, precision=recipe.precision, there=there)
    steps = graphs.write(model)
    for name, content in model.files.items():
        (staged / name).write_bytes(content)
    golden = {**(old.golden.towers if old else {}), **reference.thinned(recipe.gate.golden).towers}
    (staged / bundle.GOLDEN).write_bytes(Golden(golden).to_bytes())
    manifest = bundle.describe(staged, model, recipe, graphs.records, steps, provenance)
    if old is not None:
        manifest = old.merged(manifest)
    (staged / manifests.FILE_NAME).write_bytes(manifests.encode(manifest))
    return manifest


def _provenance(model: SourceModel, recipe: Recipe, path: Path | None) -> Provenance:
    towers = [tower.module or tower.onnx for tower in recipe.tower.values()]
    own = [name for name in (*towers, *(step.module or step.onnx for step in recipe.step.values())) if name]
    return Provenance(
        source=recipe.source or ", ".join(dict.fromkeys(own)),
        revision=(path and revision_of(path)) or recipe.revision or "",
        hashes=dict(model.hashes),
        tools=dict(model.tools),
        recipe=msgspec.json.encode(msgspec.structs.replace(recipe, folder="", extends="")).decode(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )

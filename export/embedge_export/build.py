"""The whole way from a recipe to a bundle in its place."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import msgspec

from embedge.bundle import manifest as manifests
from embedge.bundle.manifest import Certificate, Manifest, Provenance
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput
from embedge.errors import BundleError
from embedge.verify import Golden
from embedge_export import bundle, gate, sources
from embedge_export.errors import ExportError
from embedge_export.extend import BaseBundle
from embedge_export.graph_writer import Graphs
from embedge_export.model import SourceModel
from embedge_export.recipe import Recipe
from embedge_export.sources.locate import locate, revision_of

__all__ = ["STAGES", "build"]

STAGES = ("load", "ask the original", "trace", "gate", "publish")


def build(
    recipe: Recipe,
    out: Path,
    *,
    allow_pickle: bool = False,
    force: bool = False,
    stage: Callable[[str], None] = lambda _: None,
) -> tuple[Path, Manifest]:
    """Build, prove and publish the recipe's bundle; return its path and manifest.

    `stage` hears each of STAGES as it begins. On any error, and on Ctrl-C, nothing is left behind.
    Raises ExportError for what cannot be exported, GateMiss for vectors that are not the original's.
    """
    target = bundle.target_of(out, recipe)
    bundle.check_free(target, force=force)
    stage("load")
    old = BaseBundle.open(recipe.extends) if recipe.extends else None
    path = locate(recipe.source, revision=recipe.revision, allow_pickle=allow_pickle) if recipe.source else None
    model = sources.load(path, recipe, allow_pickle=allow_pickle, old=old).only(recipe.towers)
    if old is not None:
        old.check(model, recipe.labels)
    stage("ask the original")
    pairs, corpus_name = gate.ask_original(model, recipe)
    _check_dims(model, pairs)
    with bundle.staging(out, recipe) as staged:
        stage("trace")
        manifest = _write(staged, model, recipe, pairs, old, _provenance(model, recipe, path))
        stage("gate")
        certificate = _prove(staged, pairs, recipe, corpus_name)
        if old is not None:
            certificate = old.certified(manifest, certificate)
        stage("publish")
        proven = msgspec.structs.replace(manifest, certificate=certificate)
        bundle.publish(staged, proven, target, force=force)
    return target, proven


def _write(
    staged: Path, model: SourceModel, recipe: Recipe, pairs: Golden, old: BaseBundle | None, provenance: Provenance
) -> Manifest:
    """Write all that the bundle holds, of the one that it extends as well; return its manifest, not proven yet."""
    if old is not None:
        old.copy(staged)
    there = old.bundle.manifest.graphs if old else {}
    graphs = Graphs(staged, opset=recipe.opset, precision=recipe.precision, there=there)
    steps = graphs.write(model)
    for name, content in model.files.items():
        (staged / name).write_bytes(content)
    golden = {**(old.golden.towers if old else {}), **gate.thin(pairs, recipe.gate.golden).towers}
    (staged / bundle.GOLDEN).write_bytes(Golden(golden).to_bytes())
    manifest = bundle.describe(staged, model, recipe, graphs.records, steps, provenance)
    if old is not None:
        manifest = old.merged(manifest)
    (staged / manifests.FILE_NAME).write_bytes(manifests.encode(manifest))
    return manifest


def _prove(staged: Path, pairs: Golden, recipe: Recipe, corpus_name: str) -> Certificate:
    try:
        return gate.pass_gate(staged, pairs, recipe, corpus_name=corpus_name)
    except BundleError as error:
        if recipe.precision != "bfloat16":
            raise
        raise ExportError(
            "a bfloat16 graph does not run here, so nothing can be proven; export it on a machine with a GPU, or as "
            f"float16 ({error})"
        ) from error


def _check_dims(model: SourceModel, golden: Golden) -> None:
    """Raise ExportError where the original's vectors have another size than their output says."""
    for name, tower in model.towers.items():
        for output, spec in tower.outputs.items():
            if not isinstance(spec, (DenseOutput, MultiVectorOutput)):
                continue
            for row in golden.towers[name].outputs[output]:
                if row.ndim and row.shape[-1] != spec.dim:
                    raise ExportError(
                        f"tower {name!r}: outputs.{output} says dim {spec.dim}, the module gives {row.shape[-1]}"
                    )


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

"""Bundles on disk: whole or absent, and refused when anything in them is not what the manifest says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tokenizers import Tokenizer

from embedge import Bundle, Embedder, atomic
from embedge.bundle import sha256
from embedge.errors import BundleError
from embedge_export import bundle as bundles
from embedge_export import sources
from embedge_export.build import STAGES, build
from embedge_export.errors import ExportError
from embedge_export.onnx_graph import files as graph
from embedge_export.recipe import Gate, Recipe
from tests.export.models import sentence_transformer


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    file = path / "manifest.json"
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))


def add(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b" ")


def cut_graph(path: Path) -> None:
    """Half a graph, with the hash of that half: only the backend can tell."""
    graph = path / "model.onnx"
    graph.write_bytes(graph.read_bytes()[: graph.stat().st_size // 2])
    edit(path, lambda m: m["graphs"]["encoder"].update(sha256=sha256(graph)))


def link_out(path: Path) -> None:
    outside = path.parent / "outside.json"
    shutil.move(path / "tokenizer.json", outside)
    (path / "tokenizer.json").symlink_to(outside)


CORRUPTIONS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "graph changed": (lambda p: add(p / "model.onnx"), "SHA-256"),
    "graph cut": (cut_graph, "cannot load the graph"),
    "tokenizer changed": (lambda p: add(p / "tokenizer.json"), "SHA-256"),
    "golden pairs changed": (lambda p: add(p / "golden.npz"), "SHA-256"),
    "wrong tokenizer hash": (lambda p: edit(p, lambda m: m["files"].update({"tokenizer.json": "0" * 64})), "SHA-256"),
    "file missing": (lambda p: (p / "tokenizer.json").unlink(), "missing"),
    "graph missing": (lambda p: (p / "model.onnx").unlink(), "missing"),
    "unknown format": (lambda p: edit(p, lambda m: m.update(format=99)), "format 99"),
    "no format": (lambda p: edit(p, lambda m: m.pop("format")), "format None"),
    "unknown key": (lambda p: edit(p, lambda m: m.update(extra=1)), "extra"),
    "unknown key inside": (lambda p: edit(p, lambda m: m["towers"]["text"].update(extra=1)), "extra"),
    "path leaves": (lambda p: edit(p, lambda m: m["files"].update({"../outside": "0" * 64})), "outside the bundle"),
    "absolute path": (
        lambda p: edit(p, lambda m: m["graphs"]["encoder"].update(file="/etc/hosts")),
        "outside the bundle",
    ),
    "symlink leaves": (link_out, "outside the bundle"),
    "not JSON": (lambda p: (p / "manifest.json").write_text("{"), "not a valid manifest"),
    "no manifest": (lambda p: (p / "manifest.json").unlink(), "embedge export"),
}


@pytest.mark.parametrize(("corrupt", "says"), CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_corrupt_bundle_is_refused(corrupt: Callable[[Path], Any], says: str, bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    corrupt(copy)
    with pytest.raises(BundleError, match=says):
        Embedder.open(copy)


def test_a_fresh_bundle_holds_what_it_should(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert {file.name for file in bundle.iterdir()} == {"manifest.json", *loaded.manifest.files, "model.onnx"}
    assert loaded.manifest.certificate is not None
    assert loaded.manifest.certificate.passed
    assert loaded.manifest.towers["text"].buckets.lengths == (16, 32, 40)
    assert loaded.manifest.provenance.hashes["model.safetensors"]
    assert bundle.stat().st_mode & 0o777 == 0o755


def test_the_graph_is_standard_dynamic_and_says_nothing_of_this_machine(bundle: Path) -> None:
    model = onnx.load(bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(item.domain, item.version) for item in model.opset_import] == [("", 20)]
    (record,) = Bundle.load(bundle).manifest.graphs.values()
    assert [spec.shape for spec in record.inputs] == [("batch", "length")] * 2
    assert b"site-packages" not in (bundle / "model.onnx").read_bytes()


def test_the_shipped_tokenizer_neither_pads_nor_cuts(bundle: Path) -> None:
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    assert tokenizer.padding is None
    assert tokenizer.truncation is None


def interrupt(at: str) -> Callable[[str], None]:
    def stage(begun: str) -> None:
        if begun == at:
            raise KeyboardInterrupt

    return stage


@pytest.mark.parametrize("at", ["load", "trace"])
def test_an_interrupted_build_leaves_nothing(at: str, plain_model: Path, tmp_path: Path, quick: Gate) -> None:
    plan = Recipe(name="m", source=str(plain_model), gate=quick)
    with pytest.raises(KeyboardInterrupt):
        build(plan, tmp_path / "engines", stage=interrupt(at))
    assert not (tmp_path / "engines").exists()


def test_an_interrupt_at_the_last_moment_spares_the_other_bundles(
    engines: Path, plain_model: Path, quick: Gate
) -> None:
    plan = Recipe(name="plain", version="2", source=str(plain_model), gate=quick)
    with pytest.raises(KeyboardInterrupt):
        build(plan, engines, stage=interrupt(STAGES[-1]))
    assert [entry.name for entry in engines.iterdir()] == ["plain"]
    assert [entry.name for entry in (engines / "plain").iterdir()] == ["1"]


def test_an_existing_version_is_refused_before_any_work(engines: Path, plain_model: Path) -> None:
    with pytest.raises(ExportError, match="--force"):
        build(Recipe(name="plain", source="never looked at"), engines)


@pytest.mark.parametrize("place", ["engines", "engines/m", "engines/deep/er"])
def test_a_file_in_the_way_is_found_before_any_work(place: str, tmp_path: Path) -> None:
    way = tmp_path / "engines" / "m" if place == "engines/m" else tmp_path / "engines"
    way.parent.mkdir(exist_ok=True)
    way.touch()
    out = tmp_path / ("engines" if place == "engines/m" else place)
    with pytest.raises(ExportError, match=f"{way}: not a directory; choose another place"):
        build(Recipe(name="m", source="never looked at"), out)


def test_a_place_that_cannot_be_written_is_found_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles.os, "access", lambda path, mode: path != tmp_path)  # a superuser may write anywhere
    with pytest.raises(ExportError, match=f"{tmp_path}: not writable"):
        build(Recipe(name="m", source="never looked at"), tmp_path / "engines")


def test_force_replaces_in_one_step(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "engines" / "m" / "1"
    shutil.copytree(bundle, target)
    (target / "old").touch()
    manifest = Bundle.load(bundle).manifest
    recipe = Recipe(name="m", source="x")
    with bundles.staging(tmp_path / "engines", recipe) as staged:
        shutil.copytree(bundle, staged, dirs_exist_ok=True)
        with pytest.raises(ExportError, match="--force"):
            bundles.publish(staged, manifest, target, force=False)
        bundles.publish(staged, manifest, target, force=True)
    assert not (target / "old").exists()
    assert Bundle.load(target).manifest == manifest
    assert [entry.name for entry in (tmp_path / "engines").iterdir()] == ["m"]


def test_without_an_exchange_call_force_still_replaces(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    test_force_replaces_in_one_step(bundle, tmp_path)


def space(model: Path, **settings: Any) -> str:
    recipe = Recipe(name="m", source=str(model), **settings)
    (found,) = sources.load(model, recipe).spaces.values()
    return bundles.space_id(found)


def test_the_space_follows_from_weights_and_pooling(bundle: Path, plain_model: Path, tmp_path: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling

    copy = shutil.copytree(plain_model, tmp_path / "copy")
    heads = (Pooling, lambda _: Normalize())
    (known,) = Bundle.load(bundle).manifest.spaces
    assert space(copy) == known
    assert space(copy, max_length=16) == known
    assert space(copy, pooling="cls") != known
    assert space(sentence_transformer(tmp_path / "seed", *heads, seed=1)) != known
    assert space(sentence_transformer(tmp_path / "bare", Pooling)) != known


def test_large_weights_lie_beside_the_graph_and_are_hashed(
    plain_model: Path, tmp_path: Path, quick: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "_ONE_FILE", 1000)  # stands for two gigabytes
    path, manifest = build(Recipe(name="m", source=str(plain_model), opset=18, gate=quick), tmp_path)
    assert "model.onnx_data" in manifest.files
    add(path / "model.onnx_data")
    with pytest.raises(BundleError, match="SHA-256"):
        Bundle.load(path)

"""Families of several towers: every tower gives what the library's own processor and model give."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from embedge import Embedder, RuntimeConfig
from embedge.bundle.manifest import Manifest
from embedge.cli import main
from embedge.content import Image
from embedge.verify import verify
from embedge_export import bundle as bundles
from embedge_export import sources
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.recipe import Gate, Recipe, TowerRecipe
from embedge_export.samples.images import images
from tests.export.models import TEXTS, cosines
from tests.export.towers import clip

COLD = RuntimeConfig(warm_up_seconds=0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    recipe = Recipe(name="clip", source=str(source), gate=Gate(items=24, golden=16))
    return build(recipe, tmp_path_factory.mktemp("engines"))


def test_both_towers_of_clip_share_one_space(built: tuple[Path, Manifest]) -> None:
    path, manifest = built
    (space,) = manifest.spaces.values()
    assert {output.space for tower in manifest.towers.values() for output in tower.outputs.values()} == {space.id}
    assert space.scale == pytest.approx(np.exp(2.6592), rel=1e-3)
    assert {graph.file for graph in manifest.graphs.values()} == {"text.onnx", "image.onnx"}
    assert manifest.towers["image"].buckets.lengths == (1,)
    figures = verify(path).metrics
    assert all(figure.passed for figure in figures.values())
    assert {"text.dense.cosine_min", "image.dense.recall_at_10", "text.dense.padding_cosine"} <= set(figures)
    assert "image.dense.padding_cosine" not in figures  # an image cannot be padded


def test_the_commands_show_and_verify_both_towers(
    built: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    for command in ("inspect", "verify"):
        monkeypatch.setattr("sys.argv", ["embedge", command, str(built[0])])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        shown = capfd.readouterr().out
        assert "text.dense.cosine_min" in shown
        assert "image.dense.recall_at_10" in shown


def test_clip_gives_what_transformers_gives(built: tuple[Path, Manifest], source: Path) -> None:
    import torch
    from PIL import Image as Pillow
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(source).eval(), CLIPProcessor.from_pretrained(source)
    data = [data for data in images(20) if not data.startswith(b"\xff\xd8")]
    names = [name for name in TEXTS if len(name) < 60]
    with Embedder.open(built[0], config=COLD) as embedder, torch.no_grad():
        ours = embedder.embed([Image(each) for each in data]), embedder.embed(names)
        logits = embedder.manifest.spaces[next(iter(embedder.manifest.spaces))].scale * ours[0] @ ours[1].T
        import io

        pictures = [Pillow.open(io.BytesIO(each)) for each in data]
        theirs = model(**processor(text=names, images=pictures, padding="longest", return_tensors="pt"))
    assert cosines(ours[0], theirs.image_embeds.numpy()).min() > 0.99999
    assert cosines(ours[1], theirs.text_embeds.numpy()).min() > 0.99999
    np.testing.assert_allclose(logits, theirs.logits_per_image.numpy(), atol=1e-3)


def test_one_tower_can_be_exported_alone_and_keeps_its_space(
    built: tuple[Path, Manifest], source: Path, tmp_path: Path
) -> None:
    recipe = Recipe(
        name="images",
        source=str(source),
        towers=("image",),
        tower={"image": TowerRecipe(dims=(8, 16))},
        gate=Gate(items=24, golden=16),
    )
    path, manifest = build(recipe, tmp_path)
    assert list(manifest.towers) == ["image"]
    assert manifest.spaces == built[1].spaces
    assert manifest.towers["image"].outputs["dense"].dims == (8, 16)  # type: ignore[union-attr]
    assert {file.name for file in path.iterdir()} == {"manifest.json", "golden.npz", "model.onnx"}


def test_a_tower_that_is_not_there_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no tower 'audio'; it has: text, image"):
        build(Recipe(name="m", source=str(source), towers=("audio",)), tmp_path)


def test_another_weight_in_one_tower_is_another_space_for_all(source: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(source, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["visual_projection.weight"][0, 0] += 1
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    spaces = [
        bundles.space_id(sources.load(path, Recipe(name="m", source=str(path))).spaces["clip"])
        for path in (source, other)
    ]
    assert spaces[0] != spaces[1]


def test_a_pooling_makes_a_family_a_plain_text_encoder(source: Path) -> None:
    recipe = Recipe(name="m", source=str(source), pooling="mean")
    assert sources.kind_of(source, recipe) == "transformers"
    assert sources.kind_of(source, Recipe(name="m", source=str(source))) == "families"

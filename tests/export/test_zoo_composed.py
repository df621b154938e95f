"""Composed models of the zoo: shared steps, missing parts and chains give what plain PyTorch gives for an item."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from embedge import Embedder, Request, RuntimeConfig
from embedge.backends.onnxruntime import CpuSlot
from embedge.bundle.manifest import Manifest
from embedge.content import Image, Vector
from embedge.errors import EmbedgeError
from embedge.outputs import MultiVectors, Scores, Vectors
from embedge.verify import verify
from embedge_export import recipe
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.recipe import Gate
from tests.export.zoo import ZOO, made

COLD = RuntimeConfig(warm_up_seconds=0, lanes=1, threads=1)
QUICK = Gate(items=16, golden=16)
SERIES = """
[step.series_front]
module = "engines.recipes.zoo.oneencoder:SeriesFront"
gives = ["tokens", "kept"]
[tower.series]
steps = ["series_front", "projection"]
outputs.embedding = { kind = "dense", tensor = "vector", space = "image.embedding", dim = 24, normalized = true }
[tower.series.parts.series.prepare]
modality = "tensor"
inputs = { values = "series", mask = "mask" }
shape = ["time", 5]
max_length = 64
[gate]
items = 16
golden = 16
"""

pytestmark = pytest.mark.slow  # each export traces its graphs


def bundle(name: str, folder: Path) -> tuple[Path, Manifest]:
    return build(recipe.load(ZOO / f"{name}.toml", gate=QUICK), folder)


def draw(seed: int, *shape: int) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def asked(module: torch.nn.Module, **arrays: NDArray[Any]) -> Any:
    with torch.no_grad():
        return module(**{name: torch.from_numpy(array)[None] for name, array in arrays.items()})


def test_all_subsets_of_three_parts_in_one_batch(tmp_path: Path) -> None:
    path, _ = bundle("subsets", tmp_path)
    full = {"sound": (9, 8), "frames": (4, 6), "profile": (4,)}
    names = [names for count in (1, 2, 3) for names in combinations(full, count)]
    items = [{name: draw(seed, *full[name]) for name in own} for seed, own in enumerate(names)]
    with Embedder.open(path, config=COLD) as embedder:
        reply = embedder.run(Request(items=items, outputs=("embedding", "emotion")))
        with pytest.raises(EmbedgeError):
            embedder.embed([{}])
    found, scores = reply.outputs["embedding"], reply.outputs["emotion"]
    assert isinstance(found, Vectors)
    assert isinstance(scores, Scores)
    for item, vector, own in zip(items, found.values, scores.values, strict=True):
        whole = {name: item.get(name, np.zeros(full[name], np.float32)) for name in full}
        there = {f"has_{name}": np.array(float(name in item)) for name in full}
        masks = {f"{name}_mask": np.ones(len(whole[name]), np.int64) for name in ("sound", "frames")}
        theirs, classes = asked(made("subsets:Cascade"), **whole, **there, **masks)
        np.testing.assert_allclose(vector, theirs[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(own, classes[0].numpy(), atol=1e-5)


def test_modules_run_in_the_order_of_the_item_with_scores_after_each(tmp_path: Path) -> None:
    path, _ = bundle("modules", tmp_path)
    vitals, notes = draw(1, 6), draw(2, 5, 8)
    items = [{"vitals": vitals, "notes": notes}, {"notes": notes, "vitals": vitals}, {"notes": notes[:2]}]
    with Embedder.open(path, config=COLD) as embedder:
        each = embedder.run(Request(items=items, outputs=("each",))).outputs["each"]
    assert isinstance(each, MultiVectors)
    for place, item in enumerate(items):
        with torch.no_grad():
            state = made("modules:Start")()
            for turn, (name, array) in enumerate(item.items()):
                module = made(f"modules:{name.title()}")
                state = module(**{name: torch.from_numpy(array)[None]}, state=state)
                theirs = made("modules:Decoder")(state)[0].numpy()
                np.testing.assert_allclose(each[place][turn], theirs, atol=1e-5)
        assert len(each[place]) == len(item)


def test_sets_of_very_uneven_sizes_in_one_batch(tmp_path: Path) -> None:
    path, _ = bundle("bags", tmp_path)
    bags = [draw(seed, size, 48) for seed, size in enumerate((1, 500, 2, 37, 1, 120))]
    items = [{"patches": [Vector(patch) for patch in bag]} for bag in bags]
    with Embedder.open(path, config=COLD) as embedder:
        slides = embedder.embed(items, tower="slide")
        risks = embedder.run(Request(items=items, tower="slide", outputs=("risk",))).outputs["risk"]
        means = embedder.embed(items, tower="mean")
    assert isinstance(risks, Scores)
    for bag, slide, risk, mean in zip(bags, slides, risks.values, means, strict=True):
        with torch.no_grad():
            patches = made("bags:Patch")(torch.from_numpy(bag))
            theirs, danger = made("bags:Bag")(patches[None])
            middle = torch.nn.functional.normalize(patches.mean(0), dim=-1)
        np.testing.assert_allclose(slide, theirs[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(risk, danger[0].numpy(), atol=1e-5)
        np.testing.assert_allclose(mean, middle.numpy(), atol=1e-5)


def test_a_modality_added_later_leaves_the_others_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, before = bundle("oneencoder", tmp_path / "engines")
    (tmp_path / "series.toml").write_text(f'extends = "{old.relative_to(tmp_path)}"{SERIES}')
    new, after = build(recipe.load(tmp_path / "series.toml"), tmp_path / "engines")
    assert (after.name, after.version) == ("oneencoder", "2")
    assert before.graphs.items() <= after.graphs.items()
    assert before.towers.items() <= after.towers.items()
    assert after.spaces == before.spaces
    assert all((new / graph.file).read_bytes() == (old / graph.file).read_bytes() for graph in before.graphs.values())
    assert before.certificate is not None
    assert after.certificate is not None
    assert before.certificate.metrics.items() <= after.certificate.metrics.items()
    assert after.certificate.metrics["series.embedding.cosine_min"].passed
    assert verify(new).passed
    pictures = [Image(np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)) for n in range(5)]
    walks = [draw(n, 1 + 3 * n, 5) for n in range(6)]
    with Embedder.open(old, config=COLD) as first, Embedder.open(new, config=COLD) as second:
        for items in (pictures, ["a", "two words", "x" * 40]):
            np.testing.assert_array_equal(first.embed(items), second.embed(items))
        ours = second.embed(walks)
    for walk, vector in zip(walks, ours, strict=True):
        with torch.no_grad():
            tokens = made("oneencoder:SeriesFront")(torch.from_numpy(walk)[None])
            theirs = made("oneencoder:Projection")(*tokens)[0].numpy()
        np.testing.assert_allclose(vector, theirs, atol=1e-5)
    (tmp_path / "again.toml").write_text(f'extends = "{new.relative_to(tmp_path)}"{SERIES}')
    opened: list[str] = []
    open_ = CpuSlot.open
    monkeypatch.setattr(CpuSlot, "open", lambda self, name, path: opened.append(path.name) or open_(self, name, path))
    with Embedder.open(new, config=COLD):
        assert sorted(opened) == ["image_front.onnx", "projection.onnx", "series_front.onnx", "text_front.onnx"]
    with pytest.raises(ExportError, match="it already has a tower 'series'"):
        build(recipe.load(tmp_path / "again.toml"), tmp_path / "engines")

"""Models of many kinds, from recipe to runtime: what comes out is what plain PyTorch gives for each item alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import Embedder, Gaussian, Request, RuntimeConfig, Scores, Sparse, Vectors
from embedge.bundle.manifest import Part
from embedge.bundle.output_specs import CodesOutput, GaussianOutput, Output, ScoresOutput
from embedge.bundle.part_specs import ImagePrepare
from embedge.content import Image
from embedge.outputs import Codes, Result
from embedge_export import recipe
from embedge_export.build import build
from embedge_export.recipe import Gate, TowerRecipe
from embedge_export.samples.items import items_of
from tests.export.zoo import COMPOSED, PLAIN, ZOO, module, plain

RECIPES = sorted(ZOO.glob("*.toml"))
ALONE = [file for file in RECIPES if not any(name.startswith(f"{file.stem}.") for name in COMPOSED)]
# Each export traces its graphs. These are quick, and between them give words, codes, parts apart, and rows of tables.
QUICKEST = ("concepts", "hashes", "patients", "splits")
TEXTS = ["a", "two words", "日本語", "-", "x" * 200, "the cat sleeps\nand sings", "é", "42", "no", "yes", "?", "a b c"]
QUICK = Gate(items=16, golden=16)


def test_every_tower_is_tried() -> None:
    assert {f"{file.stem}.{name}" for file in RECIPES for name in recipe.load(file).tower} == {*PLAIN, *COMPOSED}


@pytest.mark.parametrize(
    "file",
    [pytest.param(file, id=file.stem, marks=() if file.stem in QUICKEST else pytest.mark.slow) for file in ALONE],
)
def test_the_runtime_gives_what_the_module_gives(file: Path, tmp_path: Path) -> None:
    plan = recipe.load(file, gate=QUICK)
    path, manifest = build(plan, tmp_path)
    outputs = [output for said in plan.tower.values() for output in said.outputs.values()]
    assert len(manifest.spaces) == len({output.space for output in outputs if not isinstance(output, ScoresOutput)})
    with Embedder.open(path, config=RuntimeConfig(warm_up_seconds=0, lanes=1, threads=1)) as embedder:
        for name, said in plan.tower.items():
            asked = items(said.parts)
            reply = embedder.run(
                Request(items=asked, tower=name, outputs=tuple(said.outputs), truncate=True, dtype="float32")
            )
            assert not reply.errors
            wanted = [results(f"{file.stem}.{name}", said, item) for item in asked]
            for output, result in reply.outputs.items():
                alike(rows(result), np.stack([each[output] for each in wanted]), said.outputs[output])


def alike(ours: NDArray[Any], theirs: NDArray[Any], output: Output) -> None:
    if isinstance(output, CodesOutput):
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if output.kind == "dense":
        cosines = (ours * theirs).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
        assert cosines.min() >= 0.9999


def items(parts: Mapping[str, Part], count: int = 12) -> list[dict[str, Any]]:
    """Return items, contents by part; images need no scaling."""
    if any(isinstance(part.prepare, ImagePrepare) for part in parts.values()):
        draws = map(np.random.default_rng, range(count))
        images = [Image(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for draw in draws]
        rest = {name: part for name, part in parts.items() if name != "image"}
        others = items_of(rest, TEXTS, count) if rest else [{}] * count
        return [{"image": image, **other} for image, other in zip(images, others, strict=True)]
    return items_of(parts, TEXTS, count)


def results(name: str, said: TowerRecipe, item: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return an item's results by output, from the module alone."""
    tensors = tuple(dict.fromkeys(tensor for output in said.outputs.values() for tensor in output.tensors))
    made = dict(zip(tensors, plain(name, module(said), item), strict=True))
    found = {}
    for key, output in said.outputs.items():
        arrays = [made[tensor] for tensor in output.tensors]
        bits = isinstance(output, CodesOutput)
        found[key] = np.stack(arrays) if isinstance(output, GaussianOutput) else arrays[0] > 0 if bits else arrays[0]
    return found


def rows(result: Result) -> NDArray[Any]:
    """Return a result as an array of one row an item."""
    if isinstance(result, Gaussian):
        return np.stack([result.mean, result.log_variance], axis=1)
    if isinstance(result, Codes):
        return np.unpackbits(result.values, axis=1)
    if isinstance(result, Sparse):
        wide = np.zeros((len(result), result.size), np.float32)
        for place in range(len(result)):
            indices, weights = result[place]
            wide[place, indices] = weights
        return wide
    assert isinstance(result, (Vectors, Scores))
    return result.values

"""Models of many kinds, from recipe to runtime: what comes out is what plain PyTorch gives for each item alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import Embedder, Gaussian, Request, RuntimeConfig, Scores, Sparse, Vectors
from embedge.content import Image
from embedge.kinds import CodesOutput, GaussianOutput, Output, ScoresOutput
from embedge.manifest import FILE_NAME, Part, Provenance, encode
from embedge.outputs import Codes, Result
from embedge.prepare import ImagePrepare, TextPrepare
from embedge_export import bundle, gate, recipe
from embedge_export.recipe import Gate, Recipe, TowerRecipe
from embedge_export.samples.items import items_of
from embedge_export.sources.base import Model, SpaceSource, TowerSource
from embedge_export.sources.torch_graph import TorchGraph
from embedge_export.sources.weights import tensor_hash
from tests.export.zoo import PLAIN, ZOO, module, plain

RECIPES = sorted(ZOO.glob("*.toml"))
TEXTS = ["a", "two words", "日本語", "-", "x" * 200, "the cat sleeps\nand sings", "é", "42", "no", "yes", "?", "a b c"]
QUICK = Gate(items=16, golden=16)


def test_every_tower_is_tried() -> None:
    assert {f"{file.stem}.{name}" for file in RECIPES for name in recipe.load(file).tower} == set(PLAIN)


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_the_runtime_gives_what_the_module_gives(file: Path, tmp_path: Path) -> None:
    plan = recipe.load(file, gate=QUICK)
    path = exported(plan, tmp_path / plan.name / "1")
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
        return [{"image": Image(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))} for draw in draws]
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


def exported(plan: Recipe, out: Path) -> Path:
    """Write the bundle of a recipe and pass it through the gate."""
    made = model(plan)
    pairs, name = gate.ask_original(made, plan)
    out.mkdir(parents=True)
    graphs = bundle.write_graphs(out, made, opset=20)
    for file, content in made.files.items():
        (out / file).write_bytes(content)
    (out / bundle.GOLDEN).write_bytes(pairs.to_bytes())
    (out / FILE_NAME).write_bytes(encode(bundle.describe(out, made, plan, graphs, Provenance(source="zoo"))))
    assert gate.pass_gate(out, pairs, plan, corpus_name=name).passed
    return out


def model(plan: Recipe) -> Model:
    """Return what a source gives for the towers of a recipe."""
    towers, spaces, files = {}, {}, {}
    for name, said in plan.tower.items():
        made, full = module(said), f"{plan.name}.{name}"
        weights = tensor_hash({key: value.numpy() for key, value in made.state_dict().items()})
        for output in said.outputs.values():
            if not isinstance(output, ScoresOutput):
                metric = plan.space[output.space].metric if output.space in plan.space else None
                definition = {"weights": weights, "output": output.tensors}
                spaces[output.space] = SpaceSource(definition=definition, dim=output.dim, metric=metric or "cosine")
        for part in said.parts.values():
            if isinstance(part.prepare, TextPrepare):
                files[part.prepare.tokenizer] = (ZOO / part.prepare.tokenizer).read_bytes()
        tensors = tuple(dict.fromkeys(tensor for output in said.outputs.values() for tensor in output.tensors))
        towers[name] = TowerSource(
            parts=said.parts,
            graph=TorchGraph(made, tensors),
            outputs=said.outputs,
            original=lambda item, said=said, full=full: results(
                full, said, item if len(said.parts) > 1 else {next(iter(said.parts)): item}
            ),
            samples=lambda count, parts=said.parts: items(parts),
        )
    return Model(kind="module", towers=towers, spaces=spaces, files=files)

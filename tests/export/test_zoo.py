"""Models of many kinds, from module to runtime: what comes out is what plain PyTorch gives for each item alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedge import Embedder, Gaussian, Request, RuntimeConfig, Scores, Sparse, Vectors
from embedge.manifest import FILE_NAME, Certificate, Part, Provenance, encode
from embedge.outputs import Codes, Result
from embedge_export import bundle, gate
from embedge_export.recipe import Gate, Recipe
from embedge_export.samples.items import items_of
from tests.export.zoo import ZOO, Stand, model

RECIPE = Recipe(name="zoo", source="zoo", gate=Gate(items=16, golden=16, known_tokens=0))


def exported(stand: Stand, out: Path) -> tuple[Path, Certificate]:
    """Write the bundle of a tower and pass it through the gate."""
    made = model(stand)
    pairs, name = gate.ask_original(made, RECIPE)
    out.mkdir(parents=True)
    graphs = bundle.write_graphs(out, made, opset=20)
    for file, content in made.files.items():
        (out / file).write_bytes(content)
    (out / bundle.GOLDEN).write_bytes(pairs.to_bytes())
    (out / FILE_NAME).write_bytes(encode(bundle.describe(out, made, RECIPE, graphs, Provenance(source="zoo"))))
    return out, gate.pass_gate(out, pairs, RECIPE, corpus_name=name)


def sampled(stand: Stand, count: int) -> list[dict[str, Any]]:
    """Return items of a tower, contents by part."""
    parts = {name: Part(prepare=prepare) for name, prepare in stand.parts.items()}
    return [{next(iter(parts)): each} for each in stand.samples(count)] if stand.samples else items_of(parts, [], count)


def rows(result: Result) -> NDArray[Any]:
    """Return a result as an array of one row an item, of the form that an original gives."""
    if isinstance(result, Vectors):
        return result.values
    if isinstance(result, Gaussian):
        return np.stack([result.mean, result.log_variance], axis=1)
    if isinstance(result, Codes):
        return np.unpackbits(result.values, axis=1)
    if isinstance(result, Scores):
        return result.values
    assert isinstance(result, Sparse)
    wide = np.zeros((len(result), result.size), np.float32)
    for place in range(len(result)):
        indices, weights = result[place]
        wide[place, indices] = weights
    return wide


def cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


@pytest.mark.parametrize("name", ZOO)
def test_the_runtime_gives_what_the_module_gives(name: str, tmp_path: Path) -> None:
    stand = ZOO[name]
    path, certificate = exported(stand, tmp_path / "zoo" / "1")
    assert certificate.passed
    items = sampled(stand, 12)
    with Embedder.open(path, config=RuntimeConfig(warm_up_seconds=0, lanes=1, threads=1)) as embedder:
        reply = embedder.run(Request(items=items, outputs=tuple(stand.outputs)))
    assert not reply.errors
    for output, result in reply.outputs.items():
        for row, item in zip(rows(result), items, strict=True):
            wanted = stand.original(item if len(item) > 1 else next(iter(item.values())))[output]
            if isinstance(result, Codes):
                np.testing.assert_array_equal(row, wanted)
            elif isinstance(result, Vectors):
                assert cosine(row, wanted) >= 0.9999
            else:
                np.testing.assert_allclose(row, wanted, atol=1e-5)

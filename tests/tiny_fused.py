"""A bundle of towers that are composed, of graphs small enough to make in every test: parts that may be missing, heads
on one trunk. All weights are whole numbers and nothing is divided, so every vector is exact, whatever its company.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from embedge.bundle import manifest as m
from embedge.bundle import sha256
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import TensorPrepare, VectorPrepare
from tests.tiny_towers import save_graph

__all__ = [
    "CHANNELS",
    "DIM",
    "NUMBERS",
    "Array",
    "buckets",
    "dense",
    "fused",
    "model",
    "numbers",
    "save_manifest",
    "series",
    "tiny_fused",
]

Array = NDArray[np.float32]

DIM, CHANNELS, NUMBERS = 8, 5, 3
_HEAD = '<ir_version: 8, opset_import: ["": 18]>\n'
_FUSED = """
fused (float[batch, time, 5] series, int64[batch, time] mask, float[batch, 3] left, float[batch] left_there,
       float[batch, 3] right, bool[batch] right_there) => (float[batch, 8] dense)
{
    last = Constant <value_ints = [-1]> ()
    rows = Constant <value_ints = [1]> ()
    inside = Cast <to = 1> (mask)
    column = Unsqueeze (inside, last)
    kept = Mul (series, column)
    sum = ReduceSum <keepdims = 0> (kept, rows)
    steps = ReduceSum <keepdims = 0> (column, rows)
    of_series = MatMul (sum, series_table)
    of_steps = MatMul (steps, steps_table)
    left_column = Unsqueeze (left_there, last)
    left_full = Concat <axis = 1> (left, left_column)
    of_left = MatMul (left_full, left_table)
    right_column = Unsqueeze (right_there, last)
    right_full = MatMul (right, right_table)
    of_right = Where (right_column, right_full, nothing)
    a = Add (of_series, of_steps)
    b = Add (of_left, of_right)
    dense = Add (a, b)
}
"""


def numbers(*shape: int, seed: int = 0) -> Array:
    """Return whole numbers from -9 to 9."""
    return np.random.default_rng([seed, *shape]).integers(-9, 10, shape).astype(np.float32)


def series(length: int, seed: int = 0) -> Array:
    """Return a series (length, CHANNELS)."""
    return numbers(length, CHANNELS, seed=seed)


def _fused_tables() -> dict[str, Array]:
    sizes = {"series": CHANNELS, "steps": 1, "left": NUMBERS + 1, "right": NUMBERS}
    tables = {f"{name}_table": numbers(size, DIM, seed=index) for index, (name, size) in enumerate(sizes.items())}
    return {**tables, "nothing": numbers(DIM, seed=9)}


def fused(*, series: Array | None = None, left: Array | None = None, right: Array | None = None) -> Array:
    """Return the vector of an item with these parts: what is not there counts, and is not the same as zeros."""
    tables = _fused_tables()
    dense = np.zeros(DIM, np.float32)
    if series is not None:
        dense += series.sum(axis=0) @ tables["series_table"] + len(series) * tables["steps_table"][0]
    if left is not None:
        dense += np.append(left, 1).astype(np.float32) @ tables["left_table"]
    return dense + (tables["nothing"] if right is None else right @ tables["right_table"])


def tiny_fused(path: Path, *, required: tuple[str, ...] = ()) -> Path:
    """Write a bundle into the new directory `path`: one tower `fused` of the parts series, left and right.

    All are optional but for those `required`. The graph sees the series by its mask, the others by their presence.
    """
    path.mkdir(parents=True)
    shape = {"shape": ("time", CHANNELS), "max_length": 16}
    prepares = {
        "series": TensorPrepare(inputs={"values": "series", "mask": "mask"}, **shape),  # type: ignore[arg-type]
        "left": VectorPrepare(inputs={"values": "left"}, dim=NUMBERS),
        "right": VectorPrepare(inputs={"values": "right"}, dim=NUMBERS),
    }
    parts = {
        name: m.Part(
            prepare=each, optional=name not in required, presence=None if name == "series" else f"{name}_there"
        )
        for name, each in prepares.items()
    }
    tower = m.Tower(parts=parts, steps=("fused",), outputs={"dense": dense()}, buckets=buckets())
    return save_manifest(path, {"fused": save_graph(path, "fused", model(_FUSED, _fused_tables()))}, {"fused": tower})


def dense(tensor: str = "dense") -> DenseOutput:
    """Return the spec of vectors read from `tensor`."""
    return DenseOutput(tensor=tensor, space="shared", dim=DIM, normalized=False)


def buckets() -> m.Buckets:
    """Return the sizes that every tower here is measured on."""
    return m.Buckets(lengths=(4, 16), batches=(1, 4))


def model(text: str, constants: Mapping[str, Array]) -> onnx.ModelProto:
    """Return the graph of its text, with its constants."""
    parsed = onnx.parser.parse_model(_HEAD + text)
    parsed.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    return parsed


def save_manifest(path: Path, graphs: dict[str, m.Graph], towers: dict[str, m.Tower]) -> Path:
    """Write the manifest of a bundle whose graphs are saved, and return its path."""
    (path / "golden.json").write_text(json.dumps({"text": ["a"]}))
    bundle = m.Manifest(
        format=m.FORMAT,
        name="fused",
        version="1",
        provenance=m.Provenance(source="tests/tiny_fused.py"),
        spaces={"shared": m.Space(id="shared", dim=DIM, metric="dot")},
        graphs=graphs,
        towers=towers,
        files={"golden.json": sha256(path / "golden.json")},
        golden="golden.json",
    )
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path

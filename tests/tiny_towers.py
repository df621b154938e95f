"""A bundle of several towers into one space, small enough to make in every test: texts, images, series, and a text
with an image. All weights are whole numbers and nothing is divided, so every vector is exact, whatever its company.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from embedge.bundle import manifest as m
from embedge.bundle import sha256
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import ImagePrepare, Resize, TensorPrepare, TextPrepare
from tests.tiny import PROMPTS, VOCABULARY, tiny_tokenizer

__all__ = ["CHANNELS", "DIM", "SIDE", "save_graph", "tables", "tiny_towers", "vector"]

DIM, SIDE, CHANNELS = 8, 4, 5
_FLOAT, _INT, _BYTE = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


def tables() -> dict[str, NDArray[np.float32]]:
    """Return the weights: text (vocabulary, DIM), image (3 * SIDE * SIDE, DIM), series (CHANNELS, DIM)."""
    random = np.random.default_rng(0)
    sizes = {"text": len(VOCABULARY), "image": 3 * SIDE * SIDE, "series": CHANNELS}
    return {name: random.integers(-9, 10, (size, DIM)).astype(np.float32) for name, size in sizes.items()}


def vector(
    *,
    text: str | None = None,
    image: NDArray[np.uint8] | None = None,
    series: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return what the towers give: the sum of tokens, of pixels (SIDE, SIDE, 3) and of steps (time, CHANNELS)."""
    weights, total = tables(), np.zeros(DIM, np.float32)
    if text is not None:
        total += weights["text"][tiny_tokenizer().encode(text).ids].sum(axis=0)
    if image is not None:
        total += image.transpose(2, 0, 1).reshape(-1).astype(np.float32) @ weights["image"]
    if series is not None:
        total += series.sum(axis=0) @ weights["series"]
    return total


def tiny_towers(path: Path, *, name: str = "towers", optional: Sequence[str] = ()) -> Path:
    """Write the bundle into the new directory `path` and return it: towers text, image, series and both.

    The parts text and image of both are required, but for those in `optional`; an optional image tells its presence.
    Each tower has the output `dense`.
    """
    path.mkdir(parents=True)
    Tokenizer.save(tiny_tokenizer(), str(path / "tokenizer.json"))
    (path / "golden.json").write_text(json.dumps({"text": ["a cat sleeps"], "tower": "text"}))
    graphs = {each: save_graph(path, each, model) for each, model in _graphs("image" in optional).items()}
    text = TextPrepare(
        tokenizer="tokenizer.json",
        max_length=32,
        inputs={"ids": "input_ids", "mask": "attention_mask"},
        prompts=PROMPTS,
    )
    square = Resize(height=SIDE, width=SIDE)
    image = ImagePrepare(inputs={"pixels": "pixels"}, height=SIDE, width=SIDE, steps=(square,))
    series = TensorPrepare(inputs={"values": "series", "mask": "series_mask"}, shape=("time", CHANNELS), max_length=16)
    towers = {
        "text": _tower(text=m.Part(prepare=text)),
        "image": _tower(image=m.Part(prepare=image)),
        "series": _tower(series=m.Part(prepare=series)),
        "both": _tower(
            text=m.Part(prepare=text, optional="text" in optional),
            image=m.Part(prepare=image, optional=True, presence="image_there")
            if "image" in optional
            else m.Part(prepare=image),
        ),
    }
    bundle = m.Manifest(
        format=m.FORMAT,
        name=name,
        version="1",
        provenance=m.Provenance(source="tests/tiny_towers.py"),
        spaces={"shared": m.Space(id="shared", dim=DIM, metric="dot")},
        graphs=graphs,
        towers=towers,
        files={file: sha256(path / file) for file in ("tokenizer.json", "golden.json")},
        golden="golden.json",
    )
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path


def _tower(**parts: m.Part) -> m.Tower:
    """Return a tower whose steps are its parts' graphs, and their sum where there are two."""
    both = len(parts) > 1
    tensor = "both_dense" if both else f"{next(iter(parts))}_dense"
    lengths = {"image": (1,), "series": (4, 16)}.get(next(iter(parts)), (8, 32))
    return m.Tower(
        parts=parts,
        steps=(*parts, "both") if both else tuple(parts),
        outputs={"dense": DenseOutput(tensor=tensor, space="shared", dim=DIM, normalized=False)},
        buckets=m.Buckets(lengths=lengths, batches=(1, 4)),
    )


def _graphs(presence: bool) -> dict[str, onnx.ModelProto]:
    node, weights = helper.make_node, tables()
    text = [
        node("Gather", ["table", "input_ids"], ["embedded"]),
        node("Cast", ["attention_mask"], ["mask"], to=_FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["embedded", "column"], ["kept"]),
        node("ReduceSum", ["kept", "rows"], ["text_dense"], keepdims=0),
    ]
    image = [
        node("Cast", ["pixels"], ["numbers"], to=_FLOAT),
        node("Flatten", ["numbers"], ["flat"], axis=1),
        node("MatMul", ["flat", "table"], ["image_dense"]),
    ]
    series = [
        node("Cast", ["series_mask"], ["mask"], to=_FLOAT),
        node("Unsqueeze", ["mask", "last"], ["column"]),
        node("Mul", ["series", "column"], ["kept"]),
        node("ReduceSum", ["kept", "rows"], ["sum"], keepdims=0),
        node("MatMul", ["sum", "table"], ["series_dense"]),
    ]
    words, dense = ["batch", "length"], ["batch", DIM]
    both, there = [node("Add", ["text_dense", "image_dense"], ["both_dense"])], {}
    if presence:
        both = [
            node("Unsqueeze", ["image_there", "rows"], ["column"]),
            node("Where", ["column", "image_dense", "zero"], ["kept"]),
            node("Add", ["text_dense", "kept"], ["both_dense"]),
        ]
        there = {"image_there": (TensorProto.BOOL, ["batch"])}
    return {
        "text": _model(text, {"input_ids": (_INT, words), "attention_mask": (_INT, words)}, weights["text"]),
        "image": _model(image, {"pixels": (_BYTE, ["batch", 3, SIDE, SIDE])}, weights["image"]),
        "series": _model(
            series,
            {"series": (_FLOAT, ["batch", "time", CHANNELS]), "series_mask": (_INT, ["batch", "time"])},
            weights["series"],
        ),
        "both": _model(
            both,
            {"text_dense": (_FLOAT, dense), "image_dense": (_FLOAT, dense), **there},
        ),
    }


def _model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, list[str | int]]],
    table: NDArray[np.float32] | None = None,
) -> onnx.ModelProto:
    constants = [
        numpy_helper.from_array(np.array([1], np.int64), "rows"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
    ]
    if table is not None:
        constants.append(numpy_helper.from_array(table, "table"))
    used = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(nodes[-1].output[0], _FLOAT, ["batch", DIM])],
        [constant for constant in constants if constant.name in used],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def save_graph(path: Path, name: str, model: onnx.ModelProto) -> m.Graph:
    """Write a graph into a bundle, and return what the manifest says of it."""
    file = path / f"{name}.onnx"
    onnx.save(model, str(file))
    inputs, outputs = ([_spec(value) for value in side] for side in (model.graph.input, model.graph.output))
    return m.Graph(file=file.name, sha256=sha256(file), inputs=tuple(inputs), outputs=tuple(outputs))


def _spec(value: onnx.ValueInfoProto) -> m.TensorSpec:
    tensor = value.type.tensor_type
    dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    shape = tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)
    return m.TensorSpec(name=value.name, dtype=dtype, shape=shape)

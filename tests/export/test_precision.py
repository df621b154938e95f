"""The precision pass: products in few bits, all that is sensitive in float32, and vectors that pass the gate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embedge import Embedder
from embedge_export import recipe as recipes
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.onnx_graph.precision import lower
from embedge_export.thresholds import Gate
from tests.export.models import TEXTS


def graph(path: Path, nodes: Sequence[onnx.NodeProto], weights: dict[str, NDArray[Any]]) -> Path:
    """Write a graph from `x` (batch, 8) to `y` (batch, 8)."""
    made = helper.make_graph(
        list(nodes),
        "made",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path


def types(path: Path) -> dict[str, int]:
    """Return the element type of every value, and of every constant."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*model.input, *model.value_info, *model.output)}
    return values | {constant.name: constant.data_type for constant in model.initializer}


def given(path: Path, kind: str) -> list[int]:
    """Return the element types of what the nodes of this kind are given."""
    known = types(path)
    return [known[name] for node in onnx.load(path).graph.node if node.op_type == kind for name in node.input]


def run(path: Path, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["y"], {"x": x})[0])


def block(path: Path, *, scale: float = 1.0) -> Path:
    """Write a product with a bias, a residual sum, a norm, a product, a softmax, and a last product."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((8, 8)) * scale / 3 for name in ("a", "b", "c")}
    weights |= {"bias": rng.standard_normal(8), "ones": np.ones(8), "zeros": np.zeros(8)}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"]),
        helper.make_node("Add", ["xa", "bias"], ["biased"]),
        helper.make_node("Add", ["x", "biased"], ["residual"]),
        helper.make_node("LayerNormalization", ["residual", "ones", "zeros"], ["normed"]),
        helper.make_node("MatMul", ["normed", "b"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"]),
        helper.make_node("MatMul", ["shares", "c"], ["y"]),
    ]
    return graph(path, nodes, weights)


@pytest.mark.parametrize(
    ("precision", "low"), [("float16", TensorProto.FLOAT16), ("bfloat16", TensorProto.BFLOAT16)], ids=str
)
def test_products_are_lowered_and_what_is_sensitive_is_not(precision: Any, low: int, tmp_path: Path) -> None:
    path = block(tmp_path / "graph.onnx")
    assert lower(path, precision) == precision
    assert set(given(path, "MatMul")) == {low}
    assert given(path, "LayerNormalization") == given(path, "Softmax") * 3 == [TensorProto.FLOAT] * 3
    assert given(path, "Add") == [low, low, TensorProto.FLOAT, TensorProto.FLOAT]  # a bias is, a residual sum is not
    known = types(path)
    assert known["x"] == known["y"] == TensorProto.FLOAT
    model = onnx.load(path).graph
    assert {constant.name for constant in model.initializer} <= {name for node in model.node for name in node.input}


def test_float16_is_near_and_rounds_as_float16_does(tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 8)).astype(np.float32)
    wanted = run(block(tmp_path / "full.onnx"), x)
    lower(half := block(tmp_path / "half.onnx"), "float16")
    found = run(half, x)
    assert 0 < np.abs(found - wanted).max() < 4e-3


def test_a_sum_that_is_written_as_a_product_stays(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["tokens"]),
        helper.make_node("Softmax", ["tokens"], ["weights"]),
        helper.make_node("Exp", ["tokens"], ["values"]),
        helper.make_node("Transpose", ["values"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["weights", "columns"], ["pooled"]),
        helper.make_node("MatMul", ["pooled", "values"], ["y"]),
    ]
    lower(path := graph(tmp_path / "graph.onnx", nodes, {"a": np.eye(8)}), "float16")
    low, high = TensorProto.FLOAT16, TensorProto.FLOAT
    assert given(path, "MatMul") == [low, low, high, high, high, high]


def test_weights_that_float16_does_not_hold_stay(tmp_path: Path) -> None:
    path = block(tmp_path / "graph.onnx", scale=1e6)
    assert lower(path, "float16") == "float32"
    assert set(given(path, "MatMul")) == {TensorProto.FLOAT}
    assert lower(path, "bfloat16") == "bfloat16"


def test_a_value_that_both_sides_read_is_there_in_both(tmp_path: Path) -> None:
    weights = {"a": np.eye(8) * 2}
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["xa"]),
        helper.make_node("MatMul", ["xa", "a"], ["xaa"]),
        helper.make_node("Exp", ["xa"], ["e"]),
        helper.make_node("Mul", ["e", "xaa"], ["y"]),
    ]
    x = np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 8)
    lower(path := graph(tmp_path / "graph.onnx", nodes, weights), "float16")
    np.testing.assert_allclose(run(path, x), np.exp(2 * x) * 4 * x, rtol=4e-3)


def test_a_graph_without_products_and_float32_are_left_alone(tmp_path: Path) -> None:
    path = graph(tmp_path / "graph.onnx", [helper.make_node("Exp", ["x"], ["y"])], {})
    before = path.read_bytes()
    assert lower(path, "float16") == "float32"
    lower(path, "float32")
    assert path.read_bytes() == before


def test_limits_are_wider_where_bits_are_fewer_and_never_for_neighbours() -> None:
    half, brain = Gate().at("float16"), Gate().at("bfloat16")
    assert Gate().at("float32") == Gate()
    assert (half.cosine_min, brain.cosine_min) == pytest.approx((0.9998, 0.998))
    assert half.max_abs == pytest.approx(2e-3)
    assert half.batch_cosine == brain.padding_cosine == Gate().batch_cosine
    assert half.recall_at_10 == Gate().recall_at_10
    assert Gate(cosine_min=0.9).at("float16").cosine_min == 0.9


def test_a_float16_bundle_is_proven_and_says_what_it_is(plain_model: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    named = {"name": "half", "source": str(plain_model), "corpus": str(tmp_path / "corpus.txt")}
    full, _ = build(recipes.load(None, **named, version="1"), tmp_path / "engines")
    path, manifest = build(recipes.load(None, **named, version="2", precision="float16"), tmp_path / "engines")
    assert {graph.precision for graph in manifest.graphs.values()} == {"float16"}
    with Embedder.open(full) as wide, Embedder.open(path) as narrow:
        cosines = (wide.embed(TEXTS, truncate=True) * narrow.embed(TEXTS, truncate=True)).sum(axis=1)
        assert wide.manifest.spaces.keys() == narrow.manifest.spaces.keys()  # the same weights, the same space
    assert 0.9998 < cosines.min() < 1 - 1e-9


def test_bfloat16_says_where_it_can_be_proven(plain_model: Path, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    recipe = recipes.load(
        None, name="brain", source=str(plain_model), corpus=str(tmp_path / "corpus.txt"), precision="bfloat16"
    )
    with pytest.raises(ExportError, match="a bfloat16 graph does not run here"):
        build(recipe, tmp_path / "engines")
    assert not (tmp_path / "engines" / "brain").exists()

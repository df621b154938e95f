"""Graph inputs, their examples and buckets, as the parts of a tower make them; samples that fit them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge.batches.batch import Layout, pad
from embedge.bundle import part_specs as p
from embedge.bundle.manifest import Part
from embedge.config import RuntimeConfig
from embedge.errors import EmbedgeError
from embedge.inputs import open_part
from embedge.request import Request
from embedge.verify import contents
from embedge_export.buckets import buckets_of
from embedge_export.errors import ExportError
from embedge_export.graph_inputs import inputs_of
from embedge_export.samples.items import items_of
from tests.tiny import tiny_tokenizer

IMAGE = p.ImagePrepare(inputs={"pixels": "x"}, height=8, width=6, steps=(p.Resize(height=8, width=6),))
COLUMNS = (p.Column(name="age", minimum=0), p.Column(name="town", categories=("a", "b"), missing=True))
TOKENS: Any = {"ids": "ids", "mask": "mask", "types": "types"}
CLIP: Any = {"samples": "x", "mask": "mask", "length": "n"}
ARRAY: Any = {"values": "x", "mask": "mask", "observed": "o"}

# A part, the shapes of its inputs after the batch, and the lengths of its buckets.
PARTS: dict[str, tuple[p.Prepare, dict[str, tuple[int | str, ...]], tuple[int, ...]]] = {
    "text": (
        p.TextPrepare(tokenizer="t.json", max_length=40, inputs=TOKENS),
        dict.fromkeys(("ids", "mask", "types"), ("length",)),
        (16, 32, 40),
    ),
    "fixed text": (
        p.TextPrepare(tokenizer="t.json", max_length=12, inputs={"ids": "ids"}, fixed_length=True),
        {"ids": (12,)},
        (12,),
    ),
    "image": (IMAGE, {"x": (3, 8, 6)}, (1,)),
    "clip": (
        p.AudioPrepare(inputs=CLIP, rate=16_000, max_seconds=1),
        {"x": ("samples",), "mask": ("samples",), "n": ()},
        (16, 32, 50),
    ),
    "fixed clip": (
        p.AudioPrepare(inputs={"samples": "x"}, rate=8000, max_seconds=1, fixed=True),
        {"x": (8000,)},
        (25,),
    ),
    "windows": (
        p.AudioPrepare(inputs={"samples": "x"}, rate=8000, max_seconds=1, hop_seconds=0.5, max_windows=4),
        {"x": ("windows", 8000)},
        (32, 64, 100),
    ),
    "video": (p.VideoPrepare(inputs={"frames": "x"}, image=IMAGE, frames=4), {"x": (4, 3, 8, 6)}, (4,)),
    "ragged video": (
        p.VideoPrepare(inputs={"frames": "x", "mask": "m"}, image=IMAGE, frames=20, sampling="fps"),
        {"x": ("frames", 3, 8, 6), "m": ("frames",)},
        (16, 20),
    ),
    "array": (
        p.TensorPrepare(inputs=ARRAY, shape=("time", 3), max_length=50, missing="mask"),
        {"x": ("time", 3), "mask": ("time",), "o": ("time", 3)},
        (16, 32, 50),
    ),
    "points": (
        p.TensorPrepare(inputs={"values": "x"}, shape=("points", 3), steps=(p.FarthestPoints(count=7),)),
        {"x": (7, 3)},
        (1,),
    ),
    "row": (
        p.TablePrepare(inputs={"numbers": "x", "categories": "c", "observed": "o"}, columns=COLUMNS),
        {"x": (1,), "c": (1,), "o": (2,)},
        (1,),
    ),
    "vector": (p.VectorPrepare(inputs={"values": "x"}, dim=5), {"x": (5,)}, (1,)),
}  # fmt: skip


@pytest.mark.parametrize("name", PARTS)
def test_inputs_are_named_and_their_examples_fit(name: str) -> None:
    prepare, shapes, lengths = PARTS[name]
    inputs = inputs_of({"part": Part(prepare=prepare)})
    assert {each.name: each.shape for each in inputs} == {key: ("batch", *shape) for key, shape in shapes.items()}
    sizes: dict[str, int] = {}
    for each in inputs:
        for axis, size in zip(each.shape, each.example.shape, strict=True):
            if isinstance(axis, str):
                assert sizes.setdefault(axis, size) == size > 1
            else:
                assert axis == size
    assert buckets_of([Part(prepare=prepare)]).lengths == lengths


@pytest.mark.parametrize("name", PARTS)
def test_samples_can_be_prepared_as_the_graph_takes_them(name: str, tmp_path: Path) -> None:
    prepare, _, lengths = PARTS[name]
    (tmp_path / "t.json").write_text(tiny_tokenizer().to_str())
    part = {"part": Part(prepare=prepare)}
    items = items_of(part, ["a cat", "the dog sleeps", "fish " * 50], 3)
    assert all(contents.label(item["part"]) for item in items)
    opened = open_part(prepare, RuntimeConfig(), lambda file: tmp_path / file)
    rows = opened.prepare([item["part"] for item in items], Request(items=(), truncate=True))
    good = [row for row in rows if not isinstance(row, EmbedgeError)]
    assert len(good) == len(items), rows
    assert max(map(opened.size, good)) <= max(lengths)
    inputs = inputs_of(part)
    arrays = pad(good, Layout({each.name: str(each.example.dtype) for each in inputs}, prepare.fills()))
    for each in inputs:
        found = arrays[each.name]
        assert found.dtype == each.example.dtype
        assert [size for size, axis in zip(found.shape, each.shape, strict=True) if isinstance(axis, int)] == [
            axis for axis in each.shape if isinstance(axis, int)
        ]


def test_texts_of_two_parts_have_lengths_of_their_own_and_arrays_of_one_symbol_share_it() -> None:
    text = {f"text-{n}": p.TextPrepare(tokenizer="t", max_length=9, inputs={"ids": f"i{n}"}) for n in (1, 2)}
    array = {f"array{n}": p.TensorPrepare(inputs={"values": f"x{n}"}, shape=("time",)) for n in (1, 2)}
    parts = {name: Part(prepare=prepare) for name, prepare in {**text, **array}.items()}
    shapes = {each.name: each.shape[1] for each in inputs_of(parts)}
    assert shapes == {"i1": "text_1_length", "i2": "text_2_length", "x1": "time", "x2": "time"}


def test_the_presence_of_a_part_is_a_number_for_each_row() -> None:
    part = Part(prepare=PARTS["vector"][0], optional=True, presence="there")
    (_, presence) = inputs_of({"a": part})
    assert (presence.name, presence.shape, presence.example.dtype) == ("there", ("batch",), "float32")


def test_absent_parts_are_absent_in_some_samples_but_never_all() -> None:
    parts = {name: Part(prepare=PARTS["vector"][0], optional=True) for name in ("a", "b")}
    kinds = {frozenset(item) for item in items_of(parts, [], 12)}
    assert kinds == {frozenset("ab"), frozenset("a"), frozenset("b")}


@pytest.mark.parametrize(
    ("examples", "says"),
    [
        ({"y": np.ones((3, 5))}, "unknown input 'y'; the parts make: x"),
        ({"x": np.ones((3, 4))}, r"has the shape \(3, 4\), the input has \('batch', 5\)"),
        ({"x": np.ones((1, 5))}, "has the shape"),
        ({"x": np.ones(5)}, "has the shape"),
    ],
)
def test_examples_that_do_not_fit_are_refused(examples: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(ExportError, match=says):
        inputs_of({"part": Part(prepare=PARTS["vector"][0])}, examples)

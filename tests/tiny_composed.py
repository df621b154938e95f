"""The bundle of `tests.tiny_towers` with towers that score pairs, of a text and an image and of two texts, and with
towers of sets, of texts, images and sets of texts.

All weights are whole numbers and nothing is divided, so every score is exact, whatever its company.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import parser

from embedge.bundle import manifest as m
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput, Output, ScoresOutput
from embedge.bundle.part_specs import TensorPrepare, VectorPrepare
from tests.tiny import tiny_tokenizer
from tests.tiny_towers import DIM, save_graph, tables, tiny_towers, vector

__all__ = ["MOST", "cross", "match", "tiny_composed", "tiny_words"]

MOST = 4000
"""Pieces that a set of texts has at most."""

_HEAD = '<ir_version: 8, opset_import: ["": 18]>'
_GRAPHS = {
    "match": f"""
        match (float[batch, {DIM}] text_dense, float[batch, {DIM}] image_dense) => (float[batch, 1] matched)
        <int64[1] last = {{1}}> {{
            product = Mul (text_dense, image_dense)
            matched = ReduceSum <keepdims = 1> (product, last)
        }}""",
    "cross": f"""
        cross (float[batch, {DIM}] text_dense) => (float[batch, 1] crossed) <int64[1] last = {{1}}> {{
            crossed = ReduceSum <keepdims = 1> (text_dense, last)
        }}""",
    "weigh": f"""
        weigh (float[batch, pieces, {DIM}] pages, int64[batch, pieces] pages_there) => (float[batch, {DIM}] weighed)
        <int64[1] rows = {{1}}, int64 row = {{1}}, int64[1] last = {{2}}> {{
            there = Cast <to = 1> (pages_there)
            order = CumSum (there, row)
            places = Mul (order, there)
            column = Unsqueeze (places, last)
            product = Mul (pages, column)
            weighed = ReduceSum <keepdims = 0> (product, rows)
        }}""",
    "titled": f"""
        titled (float[batch, {DIM}] mean, float[batch, {DIM}] text_dense) => (float[batch, {DIM}] sum) {{
            sum = Add (mean, text_dense)
        }}""",
}


def match(text: str, image: NDArray[np.uint8]) -> float:
    """Return what the tower `match` gives a text and an image: the dot product of their vectors."""
    return float(vector(text=text) @ vector(image=image))


def cross(query: str, document: str) -> float:
    """Return what the tower `cross` gives two texts: the sum of all numbers of the pair's vector."""
    return float(tables()["text"][tiny_tokenizer().encode(query, document).ids].sum())


def tiny_composed(path: Path, *, name: str = "composed") -> Path:
    """Write the bundle into the new directory `path` and return it."""
    tiny_towers(path, name=name)
    bundle = m.decode((path / m.FILE_NAME).read_bytes(), where="tiny")
    graphs = {each: save_graph(path, each, parser.parse_model(_HEAD + text)) for each, text in _GRAPHS.items()}
    text, image = (bundle.towers[each].parts[each] for each in ("text", "image"))
    pair = m.Part(prepare=msgspec.structs.replace(text.prepare, pairs=True))
    towers = {
        "match": _tower(("text", "image", "match"), {"score": _score("matched")}, text=text, image=image),
        "cross": _tower(("text", "cross"), {"score": _score("crossed")}, text=pair),
    }
    towers |= _sets(text)
    bundle = msgspec.structs.replace(bundle, graphs={**bundle.graphs, **graphs}, towers={**bundle.towers, **towers})
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path


def _sets(text: m.Part) -> dict[str, m.Tower]:
    """Return towers of sets.

    mean: of texts, without a graph. brightest: of images, the highest of each number. pages: of texts, the sum of
    their vectors times 1, 2, … in order, with the vectors themselves as the output `pages`. shelf: of what mean takes.
    titled: the mean of texts, and a text beside them.
    """
    vectors = VectorPrepare(inputs={"values": "mean"}, dim=DIM)
    mean = m.Part(prepare=vectors, set=m.SetSpec(tower="text", output="dense", pool="mean", max_pieces=MOST))
    images = m.SetSpec(tower="image", output="dense", pool="max")
    shelf = m.SetSpec(tower="mean", output="dense", pool="mean")
    pages = TensorPrepare(inputs={"values": "pages", "mask": "pages_there"}, shape=("pieces", DIM), max_length=MOST)
    each = MultiVectorOutput(tensor="pages", keep="pages_there", space="shared", dim=DIM, normalized=False)
    return {
        "mean": _tower((), {"dense": _dense("mean")}, texts=mean),
        "brightest": _tower((), {"dense": _dense("mean")}, images=m.Part(prepare=vectors, set=images)),
        "shelf": _tower((), {"dense": _dense("mean")}, books=m.Part(prepare=vectors, set=shelf)),
        "pages": _tower(
            ("weigh",),
            {"dense": _dense("weighed"), "pages": each},
            pages=m.Part(prepare=pages, set=m.SetSpec(tower="text", output="dense", prompt="passage", max_pieces=MOST)),
        ),
        "titled": _tower(("text", "titled"), {"dense": _dense("sum")}, texts=mean, title=text),
    }


def _dense(tensor: str) -> DenseOutput:
    return DenseOutput(tensor=tensor, space="shared", dim=DIM, normalized=False)


def tiny_words(path: Path, *, name: str = "words") -> Path:
    """Write a bundle of the tower `text` alone."""
    tiny_towers(path, name=name)
    bundle = m.decode((path / m.FILE_NAME).read_bytes(), where="tiny")
    bundle = msgspec.structs.replace(bundle, towers={"text": bundle.towers["text"]})
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path


def _score(tensor: str) -> ScoresOutput:
    return ScoresOutput(tensor=tensor, labels=("match",))


def _tower(steps: tuple[str, ...], outputs: dict[str, Output], **parts: m.Part) -> m.Tower:
    return m.Tower(parts=parts, steps=steps, outputs=outputs, buckets=m.Buckets(lengths=(8, 32), batches=(1, 4)))

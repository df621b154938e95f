"""The bundle of `tests.tiny_towers` with towers that score pairs: of a text and an image, and of two texts.

All weights are whole numbers and nothing is divided, so every score is exact, whatever its company.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from onnx import parser

from embedge import manifest as m
from embedge.kinds import Output, ScoresOutput
from tests.tiny import tiny_tokenizer
from tests.tiny_towers import DIM, save_graph, tables, tiny_towers, vector

__all__ = ["cross", "match", "tiny_composed", "tiny_words"]

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
    bundle = msgspec.structs.replace(bundle, graphs={**bundle.graphs, **graphs}, towers={**bundle.towers, **towers})
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path


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

"""A bundle small enough to make in every test: real graph, real tokenizer, real hashes, no training.

The encoder looks each token up in a table, averages the tokens that are not padding, and normalises. Every word of
`WORDS` is one token; anything else is `[UNK]`. Texts get `[CLS]` and `[SEP]`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from embedge.bundle import manifest as m
from embedge.bundle import sha256
from embedge.bundle.output_specs import DenseOutput
from embedge.bundle.part_specs import TextPrepare

__all__ = ["PROMPTS", "VOCABULARY", "WORDS", "tiny_bundle", "tiny_repository", "tiny_tokenizer", "words"]

_COLOURS = ("red", "green", "blue", "white", "black", "yellow")
_THINGS = ("cat", "dog", "bird", "fish", "tree", "house", "river", "stone", "sky")
WORDS = ("a", "the", "small", "large", *_COLOURS, *_THINGS, "runs", "sleeps", "sings", "falls")
PROMPTS = {"query": "query: ", "passage": "passage: "}
_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
VOCABULARY = (*_SPECIALS, "query", "passage", ":", *WORDS)


def words(count: int, *, seed: int = 0) -> str:
    """Return a text of `count` words, each one token; the same for the same seed."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, count))


def tiny_repository(root: Path, *names: str, **variations: Any) -> Path:
    """Make an engine repository with the named models (default: one, `tiny`), and return its path."""
    for number, name in enumerate(names or ("tiny",)):
        tiny_bundle(root / name / variations.get("version", "1"), name=name, **{"seed": number, **variations})
    return root


def tiny_bundle(
    path: Path,
    *,
    name: str = "tiny",
    version: str = "1",
    dim: int = 16,
    dims: tuple[int, ...] = (),
    max_length: int = 32,
    prompts: dict[str, str] = PROMPTS,
    default_prompt: str | None = None,
    padding_side: str = "right",
    normalized: bool = True,
    towers: tuple[str, ...] = ("text",),
    seed: int = 0,
) -> Path:
    """Write a bundle into the new directory `path` and return it. Each tower has the output `dense`."""
    path.mkdir(parents=True)
    Tokenizer.save(tiny_tokenizer(), str(path / "tokenizer.json"))
    onnx.save(_graph(dim, normalized, seed), str(path / "model.onnx"))
    golden = {"text": ["a cat sleeps"], "tower": towers[0]}
    (path / "golden.json").write_text(json.dumps(golden))
    prepare = TextPrepare(
        tokenizer="tokenizer.json",
        max_length=max_length,
        inputs={"ids": "input_ids", "mask": "attention_mask"},
        prompts=prompts,
        default_prompt=default_prompt,
        padding_side=padding_side,
    )
    space = f"tiny-{dim}-{seed}"
    output = DenseOutput(tensor="dense", space=space, dim=dim, normalized=normalized, dims=dims)
    buckets = m.Buckets(lengths=(8, max_length), batches=(1, 4))
    tower = m.Tower(
        parts={"text": m.Part(prepare=prepare)}, steps=("encoder",), outputs={"dense": output}, buckets=buckets
    )
    bundle = m.Manifest(
        format=m.FORMAT,
        name=name,
        version=version,
        provenance=m.Provenance(source="tests/tiny.py"),
        spaces={space: m.Space(id=space, dim=dim)},
        graphs={"encoder": _described(path / "model.onnx", dim)},
        towers=dict.fromkeys(towers, tower),
        files={file: sha256(path / file) for file in ("tokenizer.json", "golden.json")},
        golden="golden.json",
    )
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path


def tiny_tokenizer() -> Tokenizer:
    """Return the tokenizer of the bundle."""
    vocabulary = {word: number for number, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def _graph(dim: int, normalized: bool, seed: int) -> onnx.ModelProto:
    # Whole numbers: their sums are exact, so a vector does not depend on padding or company by even one bit.
    table = np.random.default_rng(seed).integers(-9, 10, (len(VOCABULARY), dim)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["embedded"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["embedded", "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "length"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["column", "length"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean" if normalized else "dense"]),
    ]
    if normalized:
        nodes.append(helper.make_node("LpNormalization", ["mean"], ["dense"], axis=1, p=2))
    constants = [
        numpy_helper.from_array(table, "table"),
        numpy_helper.from_array(np.array([1], np.int64), "length"),
        numpy_helper.from_array(np.array([2], np.int64), "last"),
    ]
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", "length"]) for n in _INPUTS]
    outputs = [helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", dim])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


_INPUTS = ("input_ids", "attention_mask")


def _described(file: Path, dim: int) -> m.Graph:
    return m.Graph(
        file=file.name,
        sha256=sha256(file),
        inputs=tuple(m.TensorSpec(name=n, dtype="int64", shape=("batch", "length")) for n in _INPUTS),
        outputs=(m.TensorSpec(name="dense", dtype="float32", shape=("batch", dim)),),
    )

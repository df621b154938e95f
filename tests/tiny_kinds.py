"""A bundle with an output of every kind, and a tower for each modality that `tests.tiny_towers` has not.

All weights are whole numbers and nothing is divided, so every result is exact, whatever its company.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import numpy_helper, parser
from tokenizers import Tokenizer

from embedge.bundle import manifest as m
from embedge.bundle import sha256
from embedge.bundle.output_specs import (
    CodesOutput,
    DenseOutput,
    GaussianOutput,
    MultiVectorOutput,
    Output,
    ScoresOutput,
    SparseOutput,
)
from embedge.bundle.part_specs import (
    AudioPrepare,
    Column,
    ImagePrepare,
    Prepare,
    Resize,
    TablePrepare,
    TextPrepare,
    VectorPrepare,
    VideoPrepare,
)
from tests.tiny import PROMPTS, VOCABULARY, tiny_tokenizer
from tests.tiny_towers import save_graph

__all__ = ["COLOURS", "DIM", "KINDS", "RATE", "tiny_kinds"]

DIM, RATE = 8, 1000
COLOURS = ("red", "green", "blue")
KINDS: dict[str, Output] = {
    "dense": DenseOutput(tensor="sum", space="dense", dim=DIM, normalized=False),
    "tokens": MultiVectorOutput(tensor="embedded", keep="keep", space="tokens", dim=DIM, normalized=False),
    "sparse": SparseOutput(tensor="positive", space="sparse", dim=DIM, top=5),
    "gaussian": GaussianOutput(mean="sum", log_variance="negative", space="gaussian", dim=DIM),
    "bits": CodesOutput(tensor="sum", space="bits", dim=DIM),
    "codes": CodesOutput(tensor="whole", form="integers", space="codes", dim=DIM),
    "token_codes": CodesOutput(tensor="wholes", keep="keep", form="integers", space="token_codes", dim=DIM),
    "scores": ScoresOutput(tensor="scored", labels=COLOURS),
}

_GRAPHS = {
    "text": f"""
        text (int64[batch, length] input_ids, int64[batch, length] attention_mask) =>
             (float[batch, length, {DIM}] embedded, int64[batch, length] keep, float[batch, {DIM}] sum,
              float[batch, {DIM}] positive, float[batch, {DIM}] negative, int64[batch, {DIM}] whole,
              int64[batch, length, {DIM}] wholes, float[batch, 3] scored) {{
            embedded = Gather (table, input_ids)
            keep = Identity (attention_mask)
            mask = Cast <to = 1> (attention_mask)
            column = Unsqueeze (mask, two)
            kept = Mul (embedded, column)
            sum = ReduceSum <keepdims = 0> (kept, one)
            positive = Relu (sum)
            negative = Neg (sum)
            whole = Cast <to = 7> (sum)
            wholes = Cast <to = 7> (embedded)
            scored = MatMul (sum, labels)
        }}""",
    "audio": f"""
        audio (float[batch, time] samples) => (float[batch, {DIM}] heard) {{
            total = ReduceSum <keepdims = 1> (samples, one)
            heard = MatMul (total, table)
        }}""",
    "video": f"""
        video (uint8[batch, 2, 3, 4, 4] frames) => (float[batch, {DIM}] seen) {{
            numbers = Cast <to = 1> (frames)
            flat = Flatten <axis = 1> (numbers)
            seen = MatMul (flat, table)
        }}""",
    "table": f"""
        cells (float[batch, 2] numbers, int64[batch, 1] categories) => (float[batch, {DIM}] row) {{
            weighed = MatMul (numbers, table)
            looked = Gather (names, categories)
            named = ReduceSum <keepdims = 0> (looked, one)
            row = Add (weighed, named)
        }}""",
    "vector": f"""
        vector (float[batch, 4] values) => (float[batch, {DIM}] projected) {{
            projected = MatMul (values, table)
        }}""",
}
_TABLES = {"text": len(VOCABULARY), "audio": 1, "video": 96, "table": 2, "vector": 4}
_FRAME = ImagePrepare(inputs={"pixels": "frames"}, height=4, width=4, steps=(Resize(height=4, width=4),))
_COLUMNS = (
    Column(name="age", minimum=0, maximum=120),
    Column(name="income", missing=True),
    Column(name="town", categories=("Bern", "Chur"), missing=True),
)
_PARTS: dict[str, tuple[Prepare, str, tuple[int, ...]]] = {
    "text": (
        TextPrepare(
            tokenizer="tokenizer.json",
            max_length=32,
            inputs={"ids": "input_ids", "mask": "attention_mask"},
            prompts=PROMPTS,
            pairs=True,
            instruction="{instruction} : ",
        ),
        "",
        (8, 32),
    ),
    "audio": (AudioPrepare(inputs={"samples": "samples"}, rate=RATE, max_seconds=1, unit=100), "heard", (1, 10)),
    "video": (VideoPrepare(inputs={"frames": "frames"}, image=_FRAME, frames=2), "seen", (2,)),
    "table": (TablePrepare(inputs={"numbers": "numbers", "categories": "categories"}, columns=_COLUMNS), "row", (1,)),
    "vector": (VectorPrepare(inputs={"values": "values"}, dim=4, space="before"), "projected", (1,)),
}


def tiny_kinds(path: Path, *, name: str = "kinds") -> Path:
    """Write the bundle into the new directory `path` and return it.

    Tower text has the outputs of `KINDS`; audio, video, table and vector have a part of their name and the output
    `dense`. The label set `colours` has a template that says nothing more.
    """
    path.mkdir(parents=True)
    Tokenizer.save(tiny_tokenizer(), str(path / "tokenizer.json"))
    (path / "golden.json").write_text(json.dumps({"text": ["a cat sleeps"], "tower": "text"}))
    spaces = {
        each.space: m.Space(id=each.space, dim=DIM) for each in KINDS.values() if not isinstance(each, ScoresOutput)
    }
    bundle = m.Manifest(
        format=m.FORMAT,
        name=name,
        version="1",
        provenance=m.Provenance(source="tests/tiny_kinds.py"),
        spaces=spaces,
        graphs={each: _graph(path, each) for each in _GRAPHS},
        towers={each: _tower(each) for each in _GRAPHS},
        files={file: sha256(path / file) for file in ("tokenizer.json", "golden.json")},
        label_sets={"colours": m.LabelSet(tower="text", output="dense", labels=COLOURS, templates=("a {} cat",))},
        golden="golden.json",
    )
    (path / m.FILE_NAME).write_bytes(m.encode(bundle))
    return path


def _tower(name: str) -> m.Tower:
    prepare, tensor, lengths = _PARTS[name]
    dense = DenseOutput(tensor=tensor, space="dense", dim=DIM, normalized=False)
    return m.Tower(
        parts={name: m.Part(prepare=prepare)},
        steps=(name,),
        outputs=KINDS if name == "text" else {"dense": dense},
        buckets=m.Buckets(lengths=lengths, batches=(1, 4)),
    )


def _graph(path: Path, name: str) -> m.Graph:
    random = np.random.default_rng(0)
    model = parser.parse_model('<ir_version: 8, opset_import: ["": 18]>' + _GRAPHS[name])
    constants = {
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "table": random.integers(-9, 10, (_TABLES[name], DIM)).astype(np.float32),
        "labels": random.integers(-9, 10, (DIM, len(COLOURS))).astype(np.float32),
        "names": random.integers(-9, 10, (3, DIM)).astype(np.float32),
    }
    used = {each for node in model.graph.node for each in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(constants[each], each) for each in constants.keys() & used)
    return save_graph(path, name, model)

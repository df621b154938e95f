"""A bundle of a tower whose modules pass a state on, small enough to make in every test; all is exact, as in
`tiny_fused`. Each module turns the state round by its own permutation, so the order of the modules matters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from embedge.bundle import manifest as m
from embedge.bundle.output_specs import DenseOutput, MultiVectorOutput, ScoresOutput
from embedge.bundle.part_specs import TensorPrepare, VectorPrepare
from tests.tiny_fused import CHANNELS, DIM, NUMBERS, Array, buckets, model, numbers, save_manifest
from tests.tiny_towers import save_graph

__all__ = ["LABELS", "MODULES", "chained", "tiny_chain"]

LABELS = tuple(f"label-{number}" for number in range(DIM))
MODULES = ("series", "left", "right")
_SERIES = """
series (float[batch, time, 5] series, int64[batch, time] mask, float[batch, 8] state) => (float[batch, 8] next)
{
    last = Constant <value_ints = [-1]> ()
    rows = Constant <value_ints = [1]> ()
    inside = Cast <to = 1> (mask)
    column = Unsqueeze (inside, last)
    kept = Mul (series, column)
    sum = ReduceSum <keepdims = 0> (kept, rows)
    turned = MatMul (state, turn)
    made = MatMul (sum, table)
    next = Add (turned, made)
}
"""
_VECTOR = """
{name} (float[batch, 3] {name}, float[batch, 8] state) => (float[batch, 8] next)
{{
    turned = MatMul (state, turn)
    made = MatMul ({name}, table)
    next = Add (turned, made)
}}
"""
_START = "start () => (float[one, 8] next) { next = Identity (first) }"
_DECODER = "decoder (float[batch, 8] state) => (float[batch, 8] scores) { scores = MatMul (state, table) }"


def _tables(name: str) -> dict[str, Array]:
    size = {"series": CHANNELS, "decoder": DIM}.get(name, NUMBERS)
    seed = [*MODULES, "decoder"].index(name)
    turn = np.eye(DIM, dtype=np.float32)[np.random.default_rng(seed).permutation(DIM)]
    return {"table": numbers(size, DIM, seed=seed), **({} if name == "decoder" else {"turn": turn})}


def _first(start: bool) -> Array:
    return numbers(1, DIM, seed=7) if start else np.zeros((1, DIM), np.float32)


def chained(parts: Mapping[str, Array], *, start: bool = True) -> tuple[Array, Array]:
    """Return the last state of an item, (DIM,), and its scores after each of its parts, (parts, DIM)."""
    state, scores = _first(start)[0], []
    for name, part in parts.items():
        tables = _tables(name)
        state = state @ tables["turn"] + (part.sum(axis=0) if name == "series" else part) @ tables["table"]
        scores.append(state @ _tables("decoder")["table"])
    return state, np.stack(scores)


def tiny_chain(path: Path, *, start: bool = True) -> Path:
    """Write the bundle into the new directory `path`: one tower of the parts series, left and right, all optional.

    Outputs: `scores` at the end, `state`, and `trail`, the scores after each part. start: begin with a given state.
    """
    path.mkdir(parents=True)
    texts = {"series": _SERIES, **{name: _VECTOR.format(name=name) for name in ("left", "right")}, "decoder": _DECODER}
    graphs = {name: save_graph(path, name, model(text, _tables(name))) for name, text in texts.items()}
    if start:
        graphs["start"] = save_graph(path, "start", model(_START, {"first": _first(start)}))
    series = TensorPrepare(inputs={"values": "series", "mask": "mask"}, shape=("time", CHANNELS), max_length=16)
    vectors = {name: VectorPrepare(inputs={"values": name}, dim=NUMBERS) for name in ("left", "right")}
    tower = m.Tower(
        parts={name: m.Part(prepare=spec, optional=True) for name, spec in {"series": series, **vectors}.items()},
        steps=("decoder",),
        outputs={
            "scores": ScoresOutput(tensor="scores", labels=LABELS),
            "state": DenseOutput(tensor="state", space="shared", dim=DIM, normalized=False),
            "trail": MultiVectorOutput(tensor="each", keep="turns", space="shared", dim=DIM, normalized=False),
        },
        buckets=buckets(),
        chain=m.Chain(
            modules={name: name for name in MODULES},
            takes="state",
            gives="next",
            start="start" if start else None,
            trail={"each": "scores"},
        ),
    )
    return save_manifest(path, graphs, {"chain": tower})

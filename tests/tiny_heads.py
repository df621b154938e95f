"""A bundle of towers that share a trunk, small enough to make in every test; every vector is exact, as in `tiny_fused`.

Towers: `plain` is the trunk; `left` and `right` have a head on it; `deep` has a second one on the head of `left`;
`other` takes the same parts through a graph of its own; `picky` has a head that no row over 1,000 survives.
"""

from __future__ import annotations

from pathlib import Path

from embedge.bundle import manifest as m
from embedge.bundle.part_specs import TensorPrepare
from tests.tiny_fused import CHANNELS, DIM, Array, buckets, dense, model, numbers, save_manifest
from tests.tiny_towers import save_graph

__all__ = ["STEPS", "TOWERS", "heads", "tiny_heads"]

STEPS = {
    "plain": ("trunk",),
    "left": ("trunk", "left"),
    "right": ("trunk", "right"),
    "deep": ("trunk", "left", "deep"),
    "picky": ("trunk", "picky"),
    "other": ("other",),
}
TOWERS = tuple(STEPS)
_TRUNK = """
{name} (float[batch, time, 5] series, int64[batch, time] mask) => (float[batch, 8] {name}_out)
{{
    last = Constant <value_ints = [-1]> ()
    rows = Constant <value_ints = [1]> ()
    inside = Cast <to = 1> (mask)
    column = Unsqueeze (inside, last)
    kept = Mul (series, column)
    sum = ReduceSum <keepdims = 0> (kept, rows)
    {name}_out = MatMul (sum, table)
}}
"""
_HEAD = """
{name} (float[batch, 8] {source}_out) => (float[batch, 8] {name}_out)
{{
    {name}_out = MatMul ({source}_out, table)
}}
"""
# No row may have a number over 1,000 here: its place in a list of one would be outside.
_PICKY = """
picky (float[batch, 8] trunk_out) => (float[batch, 8] picky_out)
{
    last = Constant <value_ints = [-1]> ()
    limit = Constant <value_float = 1000.0> ()
    most = ReduceMax <keepdims = 1> (trunk_out, last)
    over = Greater (most, limit)
    place = Cast <to = 7> (over)
    list = Constant <value_floats = [1.0]> ()
    factor = Gather (list, place)
    picky_out = Mul (trunk_out, factor)
}
"""


def _tables() -> dict[str, Array]:
    sizes = {"trunk": CHANNELS, "other": CHANNELS, "left": DIM, "right": DIM, "deep": DIM}
    return {name: numbers(size, DIM, seed=index) for index, (name, size) in enumerate(sizes.items())}


def heads(tower: str, series: Array) -> Array:
    """Return the vector that a tower gives a series."""
    tables, vector = _tables(), series.sum(axis=0)
    for step in STEPS[tower]:
        vector = vector @ tables[step] if step != "picky" else vector
    return vector


def tiny_heads(path: Path) -> Path:
    """Write the bundle into the new directory `path` and return it."""
    path.mkdir(parents=True)
    tables, graphs = _tables(), {}
    for name in ("trunk", "other"):
        graphs[name] = save_graph(path, name, model(_TRUNK.format(name=name), {"table": tables[name]}))
    for name, source in (("left", "trunk"), ("right", "trunk"), ("deep", "left")):
        graphs[name] = save_graph(path, name, model(_HEAD.format(name=name, source=source), {"table": tables[name]}))
    graphs["picky"] = save_graph(path, "picky", model(_PICKY, {}))
    spec = TensorPrepare(inputs={"values": "series", "mask": "mask"}, shape=("time", CHANNELS), max_length=16)
    towers = {
        name: m.Tower(
            parts={"series": m.Part(prepare=spec)},
            steps=steps,
            outputs={"dense": dense(f"{steps[-1]}_out")},
            buckets=buckets(),
        )
        for name, steps in STEPS.items()
    }
    return save_manifest(path, graphs, towers)

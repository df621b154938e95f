"""Shapes that the manifest tells, held against those that ONNX Runtime computes, for every tiny bundle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import RuntimeConfig
from embedge.batches import shapes
from embedge.batches.batch import Batch
from embedge.batches.probes import Probes
from embedge.batches.shapes import Profile
from embedge.bundle import Bundle
from embedge.bundle import manifest as m
from embedge.inputs.items import ItemInput
from embedge.scheduling.cost_table import CostTable
from embedge.scheduling.forming import Limits, form_batch
from tests.tiny import tiny_bundle
from tests.tiny_chain import tiny_chain
from tests.tiny_composed import tiny_composed
from tests.tiny_fused import tiny_fused
from tests.tiny_heads import tiny_heads
from tests.tiny_kinds import tiny_kinds
from tests.tiny_towers import tiny_towers

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "tiny": tiny_bundle,
    "towers": tiny_towers,
    "fused": tiny_fused,
    "heads": tiny_heads,
    "kinds": tiny_kinds,
    "chain": tiny_chain,
    "composed": tiny_composed,
}
ROWS, TOKENS = 6, 64
Arrays = Mapping[str, NDArray[Any]]


class Opened:
    """A bundle with its probes and a plain ONNX Runtime session a graph."""

    def __init__(self, path: Path) -> None:
        bundle = Bundle.load(path)
        self.manifest = bundle.manifest
        self.probes = Probes(
            bundle.manifest,
            {name: ItemInput.of(bundle, name, RuntimeConfig()).probe() for name in bundle.manifest.towers},
        )
        self.sessions = {name: ort.InferenceSession(str(bundle.graph(name))) for name in bundle.manifest.graphs}

    def profiles(self, **options: Any) -> dict[str, tuple[Profile, ...]]:
        towers = [*self.manifest.towers]
        limits: dict[str, Any] = {"max_batch_size": ROWS, "max_batch_tokens": TOKENS, **options}
        return shapes.profiles(self.probes, self.manifest, towers, **limits)

    def follow(self, tower: str, batch: Batch) -> Iterator[tuple[str, Arrays, Arrays]]:
        """Yield the tower's graphs with the inputs that they get and the outputs that they make."""
        spec = self.manifest.towers[tower]
        values: dict[str, NDArray[Any]] = dict(self.probes.feeds(batch))
        if spec.chain is not None:
            takes = next(
                each
                for each in self.manifest.graphs[next(iter(spec.chain.modules.values()))].inputs
                if each.name == spec.chain.takes
            )
            values[takes.name] = np.zeros((len(batch.rows), *map(int, takes.shape[1:])), takes.dtype)
        for graph in spec.graphs:
            inputs = {each.name: values[each.name] for each in self.manifest.graphs[graph].inputs}
            names = [each.name for each in self.manifest.graphs[graph].outputs]
            made = dict(zip(names, self.sessions[graph].run(names, inputs), strict=True))
            yield graph, inputs, made
            values.update(made)


@pytest.fixture(scope="module", params=BUILDERS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    return Opened(BUILDERS[request.param](tmp_path_factory.mktemp(request.param) / "bundle"))


def sizes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in arrays.items()}


def test_output_shapes_are_those_that_onnx_runtime_returns(opened: Opened) -> None:
    for name, tower in opened.manifest.towers.items():
        for rows in (1, 3):
            for length in (opened.probes.width(name), *tower.buckets.lengths):
                for graph, inputs, outputs in opened.follow(name, opened.probes.batch(name, rows, length)):
                    spec = opened.manifest.graphs[graph]
                    if spec.inputs:  # else nothing tells its symbols
                        known = shapes.symbols(spec.inputs, sizes(inputs))
                        told = {each.name: shapes.resolve(each, known) for each in spec.outputs}
                        assert told == sizes(outputs), (name, graph)


def test_the_most_of_a_profile_is_the_shape_of_its_largest_batch(opened: Opened) -> None:
    found = opened.profiles(max_batch_tokens=1 << 20)
    for name, tower in opened.manifest.towers.items():
        # Of several parts any may be the longest, and the probe of audio does not fill its last unit.
        if len(tower.parts) > 1 or "audio" in tower.parts:
            continue
        longest = opened.probes.batch(name, ROWS, max(tower.buckets.lengths))
        for graph, inputs, _ in opened.follow(name, longest):
            most = {each: bounds.most for each, bounds in found[graph][-1].items()}
            assert most == sizes(inputs), (name, graph)


def test_every_graph_has_profiles_and_they_widen(opened: Opened) -> None:
    found = opened.profiles()
    used = {graph for tower in opened.manifest.towers.values() for graph in tower.graphs}
    assert found.keys() == used
    for graph, own in found.items():
        assert own, graph
        for profile in own:
            assert profile.keys() == {each.name for each in opened.manifest.graphs[graph].inputs}
            for low, usual, high in profile.values():
                assert all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True))


@given(data=st.data())
def test_whatever_is_batched_has_a_profile(opened: Opened, data: st.DataObject) -> None:
    """Batches as the scheduler forms them, of rows of any length, in each tower, in all its steps."""
    tower = data.draw(st.sampled_from([*opened.manifest.towers]))
    limit = max(opened.manifest.towers[tower].buckets.lengths)
    varies = opened.probes.layouts[tower].varies
    of_any = st.integers(1, min(limit, 200)) if varies else st.just(opened.probes.width(tower))
    lengths = sorted(data.draw(st.lists(of_any, min_size=1, max_size=20)))
    anchor = data.draw(st.integers(0, len(lengths) - 1))
    low, high = form_batch(lengths, anchor, [float("inf")] * len(lengths), CostTable(), Limits(ROWS, TOKENS))
    rows = [opened.probes.batch(tower, 1, length).rows[0] for length in lengths[low:high]]

    found = opened.profiles()
    for graph, inputs, _ in opened.follow(tower, Batch([tower] * len(rows), rows, lengths[low:high])):
        assert any(shapes.holds(profile, sizes(inputs)) for profile in found[graph]), (graph, sizes(inputs))


def test_there_is_one_profile_for_each_length_bucket(tmp_path: Path) -> None:
    opened = Opened(tiny_bundle(tmp_path / "tiny", max_length=32))

    short, long = opened.profiles()["encoder"]

    assert short["input_ids"] == shapes.Range((1, 1), (6, 8), (6, 8))
    assert long["input_ids"] == shapes.Range((1, 1), (2, 32), (6, 32)), "64 tokens are two texts of 32, or six of 9"
    assert long["attention_mask"] == long["input_ids"]


def test_lengths_of_the_settings_take_the_place_of_the_buckets(tmp_path: Path) -> None:
    opened = Opened(tiny_bundle(tmp_path / "tiny", max_length=32))
    found = opened.profiles(lengths=(4, 16, 100))["encoder"]
    assert [profile["input_ids"].most[1] for profile in found] == [4, 16, 32]


def test_widths_are_rounded_up_within_the_limit(tmp_path: Path) -> None:
    opened = Opened(tiny_bundle(tmp_path / "tiny", max_length=30))
    found = opened.profiles(lengths=(9,), length_multiple=8)["encoder"]
    assert [profile["input_ids"].most[1] for profile in found] == [16, 30]


def test_a_graph_that_towers_share_has_each_profile_once(tmp_path: Path) -> None:
    found = Opened(tiny_heads(tmp_path / "heads")).profiles()
    assert {graph: len(own) for graph, own in found.items()} == {
        **dict.fromkeys(("trunk", "other"), 2),
        **dict.fromkeys(("left", "right", "deep", "picky"), 1),
    }


def test_a_chain_with_a_trail_runs_its_steps_on_every_turn(tmp_path: Path) -> None:
    found = Opened(tiny_chain(tmp_path / "chain")).profiles()
    assert found["left"][-1]["state"].most == (6, 8)
    assert found["decoder"][-1]["state"].most == (18, 8)
    assert found["start"] == ({},)


def changed(manifest: m.Manifest, graph: str, **shapes_: tuple[int | str, ...]) -> m.Manifest:
    """Return the manifest with other shapes of a graph's tensors."""

    def other(specs: tuple[m.TensorSpec, ...]) -> tuple[m.TensorSpec, ...]:
        return tuple(msgspec.structs.replace(each, shape=shapes_.get(each.name, each.shape)) for each in specs)

    old = manifest.graphs[graph]
    new = msgspec.structs.replace(old, inputs=other(old.inputs), outputs=other(old.outputs))
    return msgspec.structs.replace(manifest, graphs={**manifest.graphs, graph: new})


def test_an_axis_that_depends_on_the_data_leaves_a_graph_without_profiles(tmp_path: Path) -> None:
    opened = Opened(tiny_heads(tmp_path / "heads"))
    manifest = changed(opened.manifest, "trunk", trunk_out=("batch", "kept"))

    reasons = shapes.unbounded(manifest, [*manifest.towers])
    found = shapes.profiles(opened.probes, manifest, [*manifest.towers], max_batch_size=4, max_batch_tokens=64)

    assert reasons.keys() == {"left", "right", "deep", "picky"}
    assert "tensor 'trunk_out' of graph 'trunk' has the axis 'kept'" in reasons["deep"]
    assert {graph for graph, own in found.items() if not own} == reasons.keys()
    assert not shapes.unbounded(opened.manifest, [*manifest.towers])


@pytest.mark.parametrize(
    ("axis", "size"),
    [(7, 7), ("length", 5), ("length + 1", 6), ("(length - 1)//2 + 1", 3), ("Max(1, length*batch)", 15), ("-1*-2", 2)],
)
def test_an_axis_can_be_an_expression(axis: int | str, size: int) -> None:
    spec = m.TensorSpec(name="x", dtype="float32", shape=(axis,))
    assert shapes.resolve(spec, {"length": 5, "batch": 3}) == (size,)


@pytest.mark.parametrize(
    "axis", ["other", "length + other", "length ** 2", "__import__('os')", "length.real", "3 +", "length // 0"]
)
def test_an_axis_that_nothing_defines_is_named(axis: str) -> None:
    spec = m.TensorSpec(name="x", dtype="float32", shape=(axis,))
    with pytest.raises(KeyError) as missed:
        shapes.resolve(spec, {"length": 5})
    assert missed.value.args == (axis,)


def test_a_profile_holds_what_is_within_all_its_ranges() -> None:
    profile = {"a": shapes.Range((1, 1), (2, 4), (4, 8)), "b": shapes.Range((1,), (2,), (4,))}
    assert shapes.holds(profile, {"a": (4, 8), "b": (1,)})
    for wrong in ({"a": (5, 8), "b": (1,)}, {"a": (4, 0), "b": (1,)}, {"a": (4, 8, 1), "b": (1,)}):
        assert not shapes.holds(profile, wrong)

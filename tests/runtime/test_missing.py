"""Parts that may be missing: the graph sees it, neighbours do not matter, and what must be there is asked for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedge import BundleError, Embedder, InvalidInput, Request, RuntimeConfig
from embedge.batches.batch import layout, pad
from embedge.bundle import Bundle
from embedge.bundle import manifest as m
from embedge.bundle.manifest import Part
from embedge.bundle.part_specs import (
    AudioPrepare,
    Column,
    ImagePrepare,
    Prepare,
    TablePrepare,
    TextPrepare,
    VideoPrepare,
)
from embedge.content import Vector
from embedge.inputs.items import ItemInput
from tests.tiny_fused import NUMBERS, fused, numbers, series, tiny_fused

PARTS = ("series", "left", "right")
SUBSETS = [set(some) for count in (1, 2, 3) for some in itertools.combinations(PARTS, count)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_fused(tmp_path_factory.mktemp("fused") / "1")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Embedder]:
    with Embedder.open(path, config=RuntimeConfig(lanes=1, warm_up_seconds=0)) as opened:
        yield opened


def item(parts: set[str], *, length: int = 3, seed: int = 0) -> dict[str, Any]:
    every = {
        "series": series(length, seed),
        "left": numbers(NUMBERS, seed=seed),
        "right": numbers(NUMBERS, seed=seed + 1),
    }
    return {name: every[name] for name in PARTS if name in parts}


def given_parts(parts: dict[str, Any]) -> dict[str, Any]:
    return {name: part if name == "series" else Vector(part) for name, part in parts.items()}


def test_all_seven_subsets_share_a_batch_and_each_has_the_vector_it_has_alone(model: Embedder) -> None:
    items = [item(parts, seed=seed) for seed, parts in enumerate(SUBSETS)]
    before = model.stats()

    together = model.embed([given_parts(each) for each in items])

    assert len(SUBSETS) == 7
    after = model.stats()
    assert after["batches"] - before["batches"] < after["items"] - before["items"]
    np.testing.assert_array_equal(together, [fused(**each) for each in items])
    np.testing.assert_array_equal(together, [model.embed([given_parts(each)])[0] for each in items])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(SUBSETS), st.integers(1, 16), st.integers(0, 99)), min_size=1, max_size=12))
def test_a_vector_does_not_depend_on_the_subsets_beside_it(
    model: Embedder, drawn: list[tuple[set[str], int, int]]
) -> None:
    items = [item(parts, length=length, seed=seed) for parts, length, seed in drawn]

    np.testing.assert_array_equal(model.embed([given_parts(i) for i in items]), [fused(**i) for i in items])


def test_zeros_are_not_absence(model: Embedder) -> None:
    zeros = np.zeros(NUMBERS, np.float32)

    absent, there = model.embed([{"left": Vector(zeros)}, {"left": Vector(zeros), "right": Vector(zeros)}])

    assert (absent != there).any()


def test_an_array_of_any_length_that_no_item_has_is_one_place_wide_and_masked(path: Path) -> None:
    bundle = Bundle.load(path)
    rows = ItemInput.of(bundle, "fused", RuntimeConfig()).prepare(
        [given_parts(item({"left"})), given_parts(item({"right"}))], Request(items=())
    )

    arrays = pad(rows, layout(bundle.manifest, bundle.manifest.towers["fused"]))  # type: ignore[arg-type]

    assert arrays["series"].shape == (2, 1, 5)
    np.testing.assert_array_equal(arrays["mask"], [[0], [0]])
    np.testing.assert_array_equal(arrays["left_there"], np.float32([1, 0]))
    np.testing.assert_array_equal(arrays["right_there"], [False, True])


def test_an_item_of_no_parts_and_one_without_a_part_that_must_be_there_fail_alone(tmp_path: Path) -> None:
    bundle = tiny_fused(tmp_path / "1", required=("left",))
    items = [given_parts(item(parts)) for parts in ({"left"}, set(), {"series"}, {"left", "right"})]
    with Embedder.open(bundle, config=RuntimeConfig(lanes=1, warm_up_seconds=0)) as embedder:
        reply = embedder.run(Request(items=items))

    assert {index: str(error) for index, error in reply.errors.items()} == {
        1: "item 1: part 'left' is missing",
        2: "item 2: part 'left' is missing",
    }
    good = [fused(**item(parts)) for parts in ({"left"}, {"left", "right"})]
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 3]], good)  # type: ignore[union-attr]


def test_an_item_all_of_whose_optional_parts_are_missing_fails_alone(model: Embedder) -> None:
    reply = model.run(Request(items=[{}, given_parts(item({"left"}))]))

    assert isinstance(reply.errors[0], InvalidInput)
    assert "the item has no part; give some of series, left, right" in str(reply.errors[0])
    np.testing.assert_array_equal(reply.outputs["dense"].values[1], fused(**item({"left"})))  # type: ignore[union-attr]


def test_a_lone_part_tells_its_presence_too(path: Path) -> None:
    bundle = Bundle.load(path)
    tower = bundle.manifest.towers["fused"]
    bundle.manifest.towers["alone"] = msgspec.structs.replace(tower, parts={"left": tower.parts["left"]})

    rows = ItemInput.of(bundle, "alone", RuntimeConfig()).prepare([Vector(numbers(NUMBERS))], Request(items=()))

    assert [set(row) for row in rows if isinstance(row, dict)] == [{"left", "left_there"}]


_IMAGE = ImagePrepare(inputs={"pixels": "x"}, height=4, width=4, steps=())


@pytest.mark.parametrize(
    ("prepare", "visible"),
    [
        (TextPrepare(tokenizer="t", max_length=8, inputs={"ids": "x", "mask": "y"}), True),
        (TextPrepare(tokenizer="t", max_length=8, inputs={"ids": "x"}), False),
        (_IMAGE, False),
        (AudioPrepare(inputs={"samples": "x", "mask": "y"}, rate=8000, max_seconds=1), True),
        (AudioPrepare(inputs={"samples": "x", "mask": "y"}, rate=8000, max_seconds=1, fixed=True), False),
        (AudioPrepare(inputs={"samples": "x", "length": "y"}, rate=8000, max_seconds=1, fixed=True), True),
        (VideoPrepare(inputs={"frames": "x", "mask": "y"}, image=_IMAGE, frames=2), False),
        (VideoPrepare(inputs={"frames": "x", "mask": "y"}, image=_IMAGE, frames=2, sampling="fps"), True),
        (TablePrepare(inputs={"numbers": "x", "observed": "y"}, columns=(Column(name="a"),)), True),
    ],
)
def test_what_shows_that_a_part_is_not_there(prepare: Prepare, visible: bool) -> None:
    assert Part(prepare=prepare, optional=True).shows_absence is visible
    assert Part(prepare=prepare, optional=True, presence="there").shows_absence


def changed(path: Path, **change: Any) -> m.Manifest:
    """Decode the manifest with the part `left` changed; `takes`: the graph input of its numbers."""
    manifest = msgspec.json.decode((path / m.FILE_NAME).read_bytes())
    part = manifest["towers"]["fused"]["parts"]["left"]
    part["prepare"]["inputs"]["values"] = change.pop("takes", "left")
    if not (part | change)["presence"]:
        inputs = manifest["graphs"]["fused"]["inputs"]
        manifest["graphs"]["fused"]["inputs"] = [each for each in inputs if each["name"] != "left_there"]
    part.update(change)
    return m.decode(msgspec.json.encode(manifest), where="here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"presence": None},
            "part fused.left is optional, but no graph can see whether it is there; map one of its masks",
        ),
        ({"presence": "right_there"}, "two parts of tower 'fused' are prepared for one graph input"),
        ({"presence": "nowhere"}, "names 'left_there'"),
        ({"presence": "left", "takes": "left_there"}, "is a number for each row, but 'fused' wants"),
    ],
)
def test_a_manifest_whose_graphs_cannot_see_absence_is_refused(path: Path, change: Any, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        changed(path, **change)
    assert changed(path, presence=None, optional=False).towers["fused"].parts["left"].presence is None

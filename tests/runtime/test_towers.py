"""Towers of any modality and of several parts: items tell which, parts come together, and only what is wanted runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedge import Embedder, InvalidInput, NotFound, Request, RuntimeConfig, Unavailable
from embedge.backends.onnxruntime import CpuSlot
from embedge.bundle import Bundle
from embedge.bundle.manifest import Part
from embedge.bundle.part_specs import TensorPrepare
from embedge.content import Image, Text, Vector
from embedge.inputs import _CLASSES
from embedge.inputs.items import ItemInput
from embedge.inputs.match import choose
from tests.tiny_towers import CHANNELS, SIDE, tiny_towers, vector

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
QUICK: dict[str, Any] = {"lanes": 1, "warm_up_seconds": 0}


def series(length: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).integers(-9, 10, (length, CHANNELS)).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_towers(tmp_path_factory.mktemp("towers") / "1")


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[Embedder]:
    with Embedder.open(path, config=RuntimeConfig(lanes=2, warm_up_seconds=0.1)) as opened:
        yield opened


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    """Open the same with an optional image in the tower of both parts."""
    bundle = tiny_towers(tmp_path_factory.mktemp("lenient") / "1", optional=("image",))
    with Embedder.open(bundle, config=RuntimeConfig(**QUICK)) as opened:
        yield opened


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=12))
def test_series_of_any_length_ride_together_and_are_exact(model: Embedder, lengths: list[int]) -> None:
    items = [series(length, seed) for seed, length in enumerate(lengths)]

    vectors = model.embed(items)

    np.testing.assert_array_equal(vectors, [vector(series=item) for item in items])


@pytest.mark.parametrize(
    ("item", "tower", "parts"),
    [
        ("a cat", "text", {"text": "a cat"}),
        (Text("a cat"), "text", {"text": "a cat"}),
        ({"text": "a cat"}, "text", {"text": "a cat"}),
        (Image(PIXELS), "image", {"image": PIXELS}),
        ({"image": PIXELS}, "image", {"image": PIXELS}),
        (series(3), "series", {"series": series(3)}),
        ({"text": "a dog", "image": PIXELS}, "both", {"text": "a dog", "image": PIXELS}),
    ],
)
def test_the_items_tell_the_tower(model: Embedder, item: Any, tower: str, parts: dict[str, Any]) -> None:
    reply = model.run(Request(items=[item, item]))

    assert reply.tower == tower
    np.testing.assert_array_equal(reply.vectors, [vector(**parts)] * 2)


def test_a_long_call_resolves_its_tower_once(model: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def counted(items: Any, towers: Any) -> str:
        seen.append(len(items))
        return choose(items, towers)

    monkeypatch.setattr(sys.modules["embedge.embedder"], "choose", counted)
    items = ["a cat"] * 40_000  # more than half of the queue, so several parts

    assert model.embed(items).shape[0] == 40_000

    assert seen == [40_000]


def test_towers_of_one_model_run_beside_each_other(model: Embedder) -> None:
    asked: list[tuple[Any, dict[str, Any]]] = [
        ("a red cat", {"text": "a red cat"}),
        (Image(PIXELS), {"image": PIXELS}),
        (series(7), {"series": series(7)}),
        ({"text": "the sky", "image": PIXELS}, {"text": "the sky", "image": PIXELS}),
    ]
    futures = [(model.submit(Request(items=[item] * 3)), parts) for item, parts in asked * 5]

    for future, parts in futures:
        np.testing.assert_array_equal(future.result(30).vectors, [vector(**parts)] * 3)


def test_items_for_different_towers_are_refused_by_name(model: Embedder) -> None:
    with pytest.raises(InvalidInput, match=re.escape("item 0 (a text) 'text', item 2 (an image) 'image'; send them")):
        model.embed(["a cat", "a dog", Image(PIXELS)])


def test_what_no_tower_takes_is_told_with_what_there_is(model: Embedder) -> None:
    with pytest.raises(NotFound, match=r"no tower takes a vector; there are: text \(text\), .*both \(text, image\)"):
        model.embed([Vector(np.ones(3, np.float32))])
    with pytest.raises(NotFound, match="no tower takes the parts image, sound"):
        model.embed([{"image": PIXELS, "sound": b""}])


def test_a_medium_in_no_wrapper_is_told_which_there_are(model: Embedder) -> None:
    with pytest.raises(NotFound, match=r"such a value as PosixPath; say what it holds: embedge\.Image"):
        model.embed([Path("cat")])
    with pytest.raises(NotFound, match=r"for a text file, give path\.read_text\(\)"):
        model.embed([Path("cat.txt")])
    with pytest.raises(NotFound, match="no tower takes an audio"):
        model.embed([Path("cat.wav")])


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp"])
def test_a_path_is_what_its_suffix_says(model: Embedder, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cat{suffix}"
    PIL.Image.fromarray(PIXELS).save(path)

    reply = model.run([path, {"image": path}])

    assert reply.tower == "image"
    np.testing.assert_array_equal(reply.vectors, [vector(image=PIXELS)] * 2)


def test_a_pillow_image_is_an_image(model: Embedder, tmp_path: Path) -> None:
    image = PIL.Image.fromarray(PIXELS)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    with PIL.Image.open(tmp_path / "turned.png") as opened:
        reply = model.run([image, Image(image), {"image": image}, opened])

    assert reply.tower == "image"
    upright = np.ascontiguousarray(np.rot90(PIXELS, -1))
    np.testing.assert_array_equal(reply.vectors, [vector(image=PIXELS)] * 3 + [vector(image=upright)])


def test_a_damaged_pillow_image_fails_alone(model: Embedder, tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    PIL.Image.fromarray(RANDOM.integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with PIL.Image.open(path) as opened:
        reply = model.run([PIL.Image.fromarray(PIXELS), opened])

    assert list(reply.errors) == [1]
    assert "damaged or cut off" in str(reply.errors[1])


def test_a_list_of_items_runs_with_the_options_of_embed(model: Embedder) -> None:
    reply = model.run(["a cat", "a dog"], tower="text", dtype="float16")
    assert reply.vectors.dtype == np.float16
    assert model.submit(["a cat"], tower="text").result(30).tower == "text"
    with pytest.raises(InvalidInput, match="items is one item"):
        model.run("a cat")
    with pytest.raises(TypeError, match="unknown option 'towr'"):
        model.run(["a cat"], towr="text")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="option 'tower' goes with a list of items"):
        model.run(Request(items=["a cat"]), tower="text")


def test_an_option_that_there_is_not_is_told_with_those_there_are(model: Embedder) -> None:
    with pytest.raises(TypeError, match=r"unknown option 'dims'; embed\(\) has: .*output, dim, dtype"):
        model.embed([], dims=2)  # type: ignore[call-arg]


def test_an_embedder_shows_what_it_is(model: Embedder) -> None:
    assert repr(model) == f"Embedder({model.name!r}, version {model.version!r}, towers {', '.join(model.towers)})"


def test_an_item_that_no_tower_takes_fails_alone(model: Embedder) -> None:
    reply = model.run(Request(items=["a cat", 7, {"sound": b""}, "a dog"]))  # type: ignore[list-item]

    assert reply.tower == "text"
    assert set(reply.errors) == {1, 2}
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 3]], [vector(text=t) for t in ("a cat", "a dog")])


def test_an_ambiguous_item_needs_a_name(lenient: Embedder) -> None:
    with pytest.raises(NotFound, match="a tower must be named; these take such items: text, both"):
        lenient.embed(["a cat"])
    np.testing.assert_array_equal(lenient.embed(["a cat"], tower="both"), [vector(text="a cat")])


def test_a_part_that_is_not_there_is_nothing(lenient: Embedder) -> None:
    items: list[Any] = [{"text": "a cat"}, {"text": "a dog", "image": PIXELS}, "the sky"]

    vectors = lenient.embed(items, tower="both")

    expected = [vector(text="a cat"), vector(text="a dog", image=PIXELS), vector(text="the sky")]
    np.testing.assert_array_equal(vectors, expected)


def test_an_item_without_any_part_is_refused(tmp_path: Path) -> None:
    bundle = Bundle.load(tiny_towers(tmp_path / "1", optional=("text", "image")))

    nothing, text = ItemInput.of(bundle, "both", RuntimeConfig()).prepare([{}, "a cat"], Request(items=()))

    assert isinstance(nothing, InvalidInput)
    assert "the item has no part; give some of text, image" in str(nothing)
    assert isinstance(text, dict)


def test_each_bad_item_of_several_parts_fails_alone(model: Embedder) -> None:
    good = {"text": "a cat", "image": PIXELS}
    items: list[Any] = [
        good,
        {"text": "a cat"},
        {**good, "sound": b""},
        {**good, "text": 3},
        {**good, "image": b"no image"},
        "a cat",
        good,
    ]
    reply = model.run(Request(items=items, tower="both"))

    told = {
        1: "part 'image' is missing",
        2: "part 'sound' is unknown; this tower takes: text, image",
        3: "part 'text': a text is needed here, not int",
        4: "part 'image': ",
        5: "part 'image' is missing",
    }
    assert set(reply.errors) == set(told)
    for index, text in told.items():
        assert f"item {index}: {text}" in str(reply.errors[index])
    good_vector = vector(text="a cat", image=PIXELS)
    np.testing.assert_array_equal(reply.outputs["dense"].values[[0, 6]], [good_vector] * 2)


def test_a_prompt_for_a_tower_without_text_is_refused(model: Embedder) -> None:
    with pytest.raises(NotFound, match="prompt 'query' is unknown; tower 'image' takes no text"):
        model.embed([Image(PIXELS)], prompt="query")


def test_tensors_that_share_an_axis_must_agree(path: Path) -> None:
    bundle = Bundle.load(path)
    parts = {
        name: Part(prepare=TensorPrepare(inputs={"values": name}, shape=("time", 2), max_length=9), optional=True)
        for name in ("left", "right")
    }
    bundle.manifest.towers["pair"] = msgspec.structs.replace(bundle.manifest.towers["series"], parts=parts)
    inputs = ItemInput.of(bundle, "pair", RuntimeConfig())
    ones = np.ones((4, 2), np.float32)

    same, other, alone = inputs.prepare(
        [{"left": ones, "right": ones}, {"left": ones, "right": ones[:3]}, {"right": ones}], Request(items=())
    )

    assert isinstance(same, dict)
    assert inputs.length(same) == 8
    assert isinstance(other, InvalidInput)
    assert "'time', which they share: 'left' 4, 'right' 3" in str(other)
    assert isinstance(alone, dict)
    assert alone["left"].shape == (0, 2)


class Opened:
    """Notes which graphs the real backend opens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graphs: list[str] = []
        real = CpuSlot.open

        def open_(slot: CpuSlot, name: str, path: Path) -> Any:
            self.graphs.append(name)
            return real(slot, name, path)

        monkeypatch.setattr(CpuSlot, "open", open_)


def test_only_the_towers_that_are_wanted_are_loaded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    config = RuntimeConfig(towers=("image", "text"), **QUICK)
    with Embedder.open(path, config=config) as embedder:
        assert sorted(opened.graphs) == ["image", "text"]
        assert list(embedder.towers) == list(embedder.costs) == ["text", "image"]
        np.testing.assert_array_equal(embedder.embed([Image(PIXELS)]), [vector(image=PIXELS)])
        with pytest.raises(NotFound, match="tower 'both' is not loaded here; of 'towers' are: text, image"):
            embedder.embed(["a cat"], tower="both")
        with pytest.raises(NotFound, match="tower 'sound' is unknown"):
            embedder.embed(["a cat"], tower="sound")
        with pytest.raises(NotFound, match="no tower takes a tensor"):
            embedder.embed([series(3)])


def test_towers_share_the_sessions_of_their_graphs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(monkeypatch)
    with Embedder.open(path, config=RuntimeConfig(**QUICK)):
        assert sorted(opened.graphs) == ["both", "image", "series", "text"]


def test_a_tower_that_there_is_not_cannot_be_loaded(path: Path) -> None:
    with pytest.raises(NotFound, match="tower 'sound' is unknown; 'towers' has: text, image, series, both"):
        Embedder.open(path, config=RuntimeConfig(towers=("sound",)))


def test_a_library_that_is_missing_is_named_with_its_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {spec: (place.replace(".image:", ".no_such:"), extra) for spec, (place, extra) in _CLASSES.items()}
    monkeypatch.setattr("embedge.inputs._CLASSES", broken)
    with pytest.raises(Unavailable, match=re.escape("pip install 'embedge[image]'")):
        Embedder.open(path, config=RuntimeConfig(towers=("image",), **QUICK))
    with Embedder.open(path, config=RuntimeConfig(towers=("text",), **QUICK)) as embedder:
        assert embedder.embed(["a cat"]).shape == (1, 8)


def test_each_tower_has_costs_of_its_own(model: Embedder) -> None:
    assert {name: cost.lengths for name, cost in model.costs.items()} == {
        "text": [4, 8, 32],
        "image": [1],
        "series": [8, 16],
        "both": [4, 8, 32],
    }
    assert all(cost.measured and cost.rows == [1, 4] for cost in model.costs.values())


def test_lengths_of_the_settings_are_measured_up_to_each_towers_limit(path: Path) -> None:
    with Embedder.open(path, config=RuntimeConfig(lengths=(100, 12, 6), **QUICK)) as embedder:
        found = {name: cost.lengths for name, cost in embedder.costs.items()}
    assert found == {"text": [4, 6, 8, 12, 32], "image": [1], "series": [8, 12, 16], "both": [4, 6, 8, 12, 32]}


def test_measured_costs_of_every_tower_are_kept_for_the_next_start(path: Path) -> None:
    config = RuntimeConfig(lanes=1, threads=1, warm_up_seconds=0.05)
    with Embedder.open(path, config=config) as first:
        grids = {name: cost.grid for name, cost in first.costs.items()}
    with Embedder.open(path, config=RuntimeConfig(lanes=1, threads=1, warm_up_seconds=0)) as second:
        assert {name: cost.grid for name, cost in second.costs.items()} == grids


def test_no_items_name_no_tower(model: Embedder) -> None:
    towers = model.manifest.towers
    assert choose([], {"text": towers["text"]}) == "text"
    with pytest.raises(NotFound, match="a tower must be named"):
        choose([], towers)

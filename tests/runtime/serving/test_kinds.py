"""Every kind of output and every modality over the wire: what comes back is what the model gives in process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import soundfile

from embedge import AsyncClient, Client, Embedder, InvalidInput, NotFound, Request
from embedge.content import Audio, Image, Text, Vector, Video
from embedge.v1 import embedge_pb2 as pb
from tests.runtime.serving.test_wire import same
from tests.tiny_kinds import COLOURS, KINDS, RATE
from tests.tiny_towers import CHANNELS, SIDE

TEXTS = ["a red cat", "", "the dog runs", Text("a cat", pair="a dog"), Text("a cat", instruction="small")]
random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (6, 5, 3), dtype=np.uint8)
SERIES = random.integers(-9, 10, (3, CHANNELS)).astype(np.float32)
FRAMES = random.integers(0, 256, (3, 4, 4, 3), dtype=np.uint8)
CLIP = random.integers(-999, 1000, 2 * RATE // 10) / np.float32(1024)


def png() -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(file, "PNG")
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, CLIP, RATE, "PCM_16", format="WAV")
    return file.getvalue()


# Model, items (bad ones among them), and the tower that the server must find by itself.
ITEMS: list[tuple[str, list[Any], str]] = [
    ("kinds", ["a red cat", "", Text("a cat", pair="a dog"), Text("a cat", language="xx")], "text"),
    ("kinds", [Audio(CLIP, RATE), Audio(wav()), Audio(b"no clip"), Audio(CLIP)], "audio"),
    ("kinds", [Video(FRAMES, 25.0), Video(b"no video"), Video(FRAMES[:, :2], 25.0)], "video"),
    ("kinds", [{"table": {"age": 3, "town": "Chur"}}, {"table": {"age": 200}}, {"table": {"aeg": 3}}], "table"),
    ("kinds", [{"table": {"age": 3.5, "income": None, "town": None}}, {"table": {"age": np.nan}}], "table"),
    ("kinds", [Vector(SERIES[0][:4]), Vector(SERIES[0][:4], "before"), Vector(SERIES[0][:4], "another")], "vector"),
    ("kinds", [Vector(SERIES[0][:4].astype(">f8")), Vector(SERIES[0][:3]), {"vector": [1.0, 2.0, 3.0, 4.0]}], "vector"),
    ("towers", [Image(png()), Image(PIXELS), Image(b""), Image(b"GIF89a"), Image(PIXELS[:, :, 0])], "image"),
    ("towers", [{"image": png()}, {"image": PIXELS}, {"image": b"no image"}, {"image": "a cat"}], "image"),
    ("towers", [SERIES, SERIES.astype(np.int16), SERIES[:, 1:], SERIES[:0], np.asfortranarray(SERIES)], "series"),
    (
        "towers",
        [{"series": SERIES}, {"series": SERIES * np.nan}, {"series": SERIES.tolist()}, {"series": "x"}],
        "series",
    ),
    ("towers", [{"text": "a cat", "image": Image(png())}, {"image": b"", "text": "a"}], "both"),
]


@pytest.mark.parametrize(("model", "items", "tower"), ITEMS)
def test_every_modality_gives_the_same_as_in_process(
    keeper: Client, kinds: Embedder, towers: Embedder, model: str, items: list[Any], tower: str
) -> None:
    request = Request(items=items)
    reply = keeper.run(model, request)
    assert reply.tower == tower
    assert len(reply.errors) < len(items)
    same(reply, {"kinds": kinds, "towers": towers}[model].run(request))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "ubinary"])
@pytest.mark.parametrize("items", [TEXTS, [""], []])
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_output_gives_the_same_as_in_process(
    keeper: Client, kinds: Embedder, name: str, items: list[Any], dtype: Any
) -> None:
    request = Request(items=items, tower="text", outputs=(name,), dtype=dtype)
    replies = []
    for run in (lambda asked: keeper.run("kinds", asked), kinds.run):
        try:
            replies.append(run(request))
        except InvalidInput as error:  # a dtype that this kind does not have
            replies.append(str(error))
    if isinstance(replies[0], str):
        assert replies[0] == replies[1]
    else:
        same(*replies)


def test_all_kinds_in_one_reply_and_in_many(keeper: Client, kinds: Embedder) -> None:
    request = Request(items=TEXTS * 400, tower="text", outputs=tuple(KINDS), dim=None)
    same(keeper.run("kinds", request), kinds.run(request))


def test_embed_returns_what_the_embedder_returns(keeper: Client, kinds: Embedder) -> None:
    items = ["a red cat", "the dog runs"]
    vectors = keeper.embed("kinds", items, output="dense")
    np.testing.assert_array_equal(vectors, kinds.embed(items, output="dense"), strict=True)
    pooled = keeper.embed("kinds", items, output="tokens", pool=2)
    assert pooled[0].shape == (2, 8)
    np.testing.assert_array_equal(pooled.values, kinds.embed(items, output="tokens", pool=2).values, strict=True)


def test_paths_are_read_by_the_client(keeper: Client, towers: Embedder, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(png())
    expected = towers.embed([Image(PIXELS)])
    for item in (file, Image(file), {"image": file}, {"image": Image(file)}):
        np.testing.assert_array_equal(keeper.embed("towers", [item]), expected, strict=True)
    with pytest.raises(InvalidInput, match=r"^item 1: .*missing\.png cannot be read") as raised:
        keeper.embed("towers", [Image(file), Image(tmp_path / "missing.png")])
    assert raised.value.index == 1
    with pytest.raises(InvalidInput, match=r"^item 0: part 'image': .* cannot be read: it does not exist, or is"):
        keeper.embed("towers", [{"image": tmp_path}])
    with pytest.raises(InvalidInput, match=r"^item 0: .*notes\.txt is a text file; give its text: path\.read_text\(\)"):
        keeper.embed("towers", [tmp_path / "notes.txt"])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr", "I;16"])
def test_a_pillow_image_is_the_same_as_in_process(keeper: Client, towers: Embedder, mode: str) -> None:
    colours = PIL.Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
    wide = PIL.Image.fromarray(random.integers(0, 1 << 16, (SIDE, SIDE), dtype=np.uint16))
    image = wide if mode == "I;16" else colours.convert(mode)
    expected = towers.embed([image])
    for item in (image, Image(image), {"image": image}):
        np.testing.assert_array_equal(keeper.embed("towers", [item]), expected, strict=True)


def test_a_pillow_image_of_floats_is_refused_on_both_sides(keeper: Client, towers: Embedder) -> None:
    image = PIL.Image.new("F", (SIDE, SIDE))
    for embed in (towers.embed, lambda items: keeper.embed("towers", items)):
        with pytest.raises(InvalidInput, match="more than 16 bits"):
            embed([image])


async def test_a_list_of_items_runs_with_the_options_of_embed(
    keeper: Client, towers: Embedder, zoo_address: str
) -> None:
    want = towers.run(["a cat", "a dog"], tower="text", dtype="float16")
    same(keeper.run("towers", ["a cat", "a dog"], tower="text", dtype="float16"), want)
    async with AsyncClient(zoo_address) as client:
        same(await client.run("towers", ["a cat", "a dog"], tower="text", dtype="float16"), want)
    ((index, answer),) = keeper.stream("towers", [["a cat"]])
    assert (index, len(answer.tokens)) == (0, 1)
    with pytest.raises(TypeError, match="option 'tower' goes with a list of items"):
        keeper.run("towers", Request(items=["a cat"]), tower="text")


def test_requests_are_cut_by_bytes_as_well(zoo_address: str, towers: Embedder) -> None:
    big = np.ones((100, 100, 3), np.uint8)
    with Client(zoo_address, max_message_bytes=100_000) as client:
        items = [Image(big)] * 7
        np.testing.assert_array_equal(client.embed("towers", items), towers.embed(items), strict=True)
        items[5] = Image(np.zeros((200, 200, 3), np.uint8))
        with pytest.raises(InvalidInput, match=r"item 5 makes a message of 120,.*limit is 100,000.*--max-message-b"):
            client.embed("towers", items)
        with pytest.raises(InvalidInput, match="the request makes a message of 210,"):
            list(client.stream("towers", [Request(items=items[:4] + items[6:] + items[:2])]))


def test_a_file_over_the_limit_is_not_read(zoo_address: str, tmp_path: Path) -> None:
    file = tmp_path / "huge.png"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    with Client(zoo_address) as client, pytest.raises(InvalidInput, match=r"has 1,099,511,627,776 bytes, the limit of"):
        client.embed("towers", [Image(file)])


async def test_the_async_client_takes_the_same(zoo_address: str, towers: Embedder) -> None:
    async with AsyncClient(zoo_address) as client:
        vectors = await client.embed("towers", [Image(png())] * 3)
    np.testing.assert_array_equal(vectors, towers.embed([Image(png())] * 3), strict=True)


def test_items_of_different_towers_are_refused(keeper: Client) -> None:
    with pytest.raises(InvalidInput, match="need different towers"):
        keeper.embed("towers", ["a cat", Image(PIXELS)])
    with pytest.raises(NotFound, match="no tower takes"):
        keeper.embed("towers", [Audio(CLIP, RATE)])


def test_a_model_tells_what_its_parts_take(keeper: Client) -> None:
    parts = {part.name: part for model in ("kinds", "towers") for t in keeper.model(model).towers for part in t.parts}
    assert {part.modality for part in parts.values()} == {
        "text",
        "image",
        "audio",
        "video",
        "tensor",
        "table",
        "vector",
    }
    assert (parts["image"].image.height, parts["image"].image.mode, parts["image"].max_bytes) == (SIDE, "RGB", 64 << 20)
    assert (parts["audio"].audio.rate, parts["audio"].audio.max_seconds) == (RATE, 1.0)
    assert (parts["video"].video.frames, parts["video"].video.sampling) == (2, "uniform")
    series = parts["series"].tensor
    assert (series.dtype, [axis.symbol or axis.size for axis in series.shape]) == (pb.DTYPE_FLOAT32, ["time", CHANNELS])
    assert not series.HasField("minimum")
    age, _, town = parts["table"].table.columns
    assert (age.minimum, age.maximum, age.missing, list(town.categories)) == (0, 120, False, ["Bern", "Chur"])
    assert (parts["vector"].vector.dim, parts["vector"].vector.space) == (4, "before")


def test_a_model_tells_what_its_outputs_give(keeper: Client) -> None:
    model = keeper.model("kinds")
    outputs = {output.name: output for output in model.towers[0].outputs}
    assert {name: pb.Kind.Name(output.kind).removeprefix("KIND_").lower() for name, output in outputs.items()} == {
        name: spec.kind for name, spec in KINDS.items()
    }
    assert {name for name, output in outputs.items() if output.ragged} == {"tokens", "sparse", "token_codes"}
    assert (list(outputs["scores"].labels), outputs["sparse"].top, outputs["codes"].form) == (
        list(COLOURS),
        5,
        "integers",
    )
    [labels] = model.label_sets
    assert (labels.name, labels.tower, labels.labels, labels.templates, labels.scores) == (
        "colours",
        "text",
        3,
        1,
        "softmax",
    )
    assert all(tower.loaded for tower in model.towers)

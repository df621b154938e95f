"""Families that see: encoded images, videos and texts in, what the library's own processor and model give out."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image as Pillow

from embedge import Embedder, RuntimeConfig
from embedge.bundle.manifest import Manifest
from embedge.content import Image, Video
from embedge.request import Request
from embedge_export import sources
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.model import SourceModel
from embedge_export.recipe import Gate, Recipe
from embedge_export.samples.images import images
from embedge_export.samples.videos import videos
from embedge_export.sources.originals import frames
from tests.export import towers
from tests.export.models import TEXTS, cosines

COLD = RuntimeConfig(warm_up_seconds=0)
PICTURES = images(6)
FILMS = videos(3)
WORDS = [*(text for text in TEXTS if len(text) < 36), *towers.LANGUAGES]
COUNT = 8  # frames that the stand-ins see
PAIRS = ("metaclip_2", "siglip", "align")
SINGLE = ("vit", "dinov2", "videomae", "timesformer")


@dataclass(frozen=True)
class Case:
    """A family's bundle, and the directory that it was made of."""

    name: str
    source: Path
    path: Path
    manifest: Manifest

    def original(self) -> tuple[Any, Any]:
        """Return the library's own model and processor."""
        loaded = transformers.AutoModel.from_pretrained(self.source).eval()
        kind = transformers.AutoImageProcessor if self.name in SINGLE else transformers.AutoProcessor
        return loaded, kind.from_pretrained(self.source)

    def run(self, items: Sequence[Any], *outputs: str) -> Mapping[str, Any]:
        """Return results by output, of one request to the runtime."""
        with Embedder.open(self.path, config=COLD) as embedder:
            return embedder.run(Request(items=items, outputs=outputs)).outputs


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    """Return what builds the bundle of a family, through the gate, the first time it is asked for."""
    made: dict[str, Case] = {}

    def case(name: str) -> Case:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source = getattr(towers, name)(folder / "source")
            gate = Gate(items=16, golden=16, known_tokens=0.7)
            made[name] = Case(name, source, *build(Recipe(name=name, source=str(source), gate=gate), folder))
        return made[name]

    return case


def loaded(source: Path, **settings: Any) -> SourceModel:
    return sources.load(source, Recipe(name="m", source=str(source), **settings))


def pictures() -> list[Any]:
    return [Pillow.open(io.BytesIO(data)).convert("RGB") for data in PICTURES]


def shown(data: bytes) -> list[NDArray[np.uint8]]:
    """Return the frames of a video that transformers takes when it is asked for `COUNT`."""
    found = frames(Video(data))
    return [found[place * len(found) // COUNT] for place in range(COUNT)]


def states(model: Any, processor: Any, name: str) -> torch.Tensor:
    """Return the model's last states, of the pictures or the films."""
    seen: list[Any] = pictures() if name in ("vit", "dinov2") else [shown(data) for data in FILMS]
    with torch.no_grad():
        pixels = [processor(each, return_tensors="pt")["pixel_values"] for each in seen]
        found: torch.Tensor = model(torch.cat(pixels)).last_hidden_state
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_texts_and_images_have_the_originals_vectors_and_logits(name: str, make: Callable[[str], Case]) -> None:
    case = make(name)
    model, processor = case.original()
    ours = case.run(WORDS)["dense"].values, case.run([Image(data) for data in PICTURES])["dense"].values
    padding: dict[str, Any] = (
        {"padding": "longest"} if name == "metaclip_2" else {"padding": "max_length", "max_length": 64}
    )
    with torch.no_grad():
        theirs = model(**processor(text=WORDS, images=pictures(), return_tensors="pt", **padding))
    assert cosines(ours[0], theirs.text_embeds.numpy()).min() > 0.99999
    assert cosines(ours[1], theirs.image_embeds.numpy()).min() > 0.99999
    (space,) = case.manifest.spaces.values()
    np.testing.assert_allclose(
        space.scale * ours[1] @ ours[0].T + space.bias, theirs.logits_per_image.numpy(), rtol=1e-3, atol=1e-3
    )
    assert (space.bias != 0) == (name == "siglip")


@pytest.mark.slow
def test_languages_differ(make: Callable[[str], Case]) -> None:
    vectors = make("metaclip_2").run(towers.LANGUAGES)["dense"].values
    assert (vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)].max() < 0.9999


@pytest.mark.parametrize("name", ["vit", "dinov2"])
def test_images_have_a_vector_and_one_a_patch_from_one_pass(name: str, make: Callable[[str], Case]) -> None:
    case = make(name)
    theirs = states(*case.original(), name).numpy()
    ours = case.run([Image(data) for data in PICTURES], "dense", "patches")
    assert cosines(ours["dense"].values, theirs[:, 0]).min() > 0.99999
    for patches, expected in zip(ours["patches"], theirs[:, 1:], strict=True):
        assert cosines(patches, expected).min() > 0.99999
    assert ours["patches"].space != ours["dense"].space
    assert list(case.run([Image(PICTURES[0])])) == ["dense"]


def test_registers_are_no_patches(tmp_path: Path) -> None:
    (tower,) = loaded(towers.dinov2_with_registers(tmp_path)).towers.values()
    assert tower.original(Image(PICTURES[0]))["patches"].shape == (16, 32)


@pytest.mark.parametrize("name", ["videomae", pytest.param("timesformer", marks=pytest.mark.slow)])
def test_videos_have_a_vector_and_one_a_frame_from_one_pass(name: str, make: Callable[[str], Case]) -> None:
    case = make(name)
    theirs = states(*case.original(), name).numpy()
    ours = case.run([Video(data) for data in FILMS], "dense", "frames")
    if name == "videomae":  # tubes of 2 frames and 16 patches
        whole, single = theirs.mean(axis=1), [theirs[:, 16 * tube :][:, :16].mean(axis=1) for tube in range(4)]
    else:  # patch by patch, that patch in every frame
        whole, single = theirs[:, 0], [theirs[:, 1 + frame :: COUNT].mean(axis=1) for frame in range(COUNT)]
    assert cosines(ours["dense"].values, whole).min() > 0.99999
    for found, expected in zip(ours["frames"], np.stack(single, axis=1), strict=True):
        assert cosines(found, expected).min() > 0.99999


@pytest.mark.slow
def test_frames_of_one_clip_tell_each_other_and_no_other_clip(make: Callable[[str], Case]) -> None:
    case = make("xclip")
    model, processor = case.original()
    clips = [np.stack(shown(data)) for data in FILMS]
    with torch.no_grad():
        pixels = [
            processor(images=list(clip), return_tensors="pt")["pixel_values"].reshape(1, COUNT, 3, 32, 32)
            for clip in clips
        ]
        theirs = model.get_video_features(torch.cat(pixels)).pooler_output.numpy()
        texts = model.get_text_features(**processor.tokenizer(WORDS, padding="longest", return_tensors="pt"))
    ours = case.run([Video(data) for data in FILMS], "dense", "frames")
    assert cosines(ours["dense"].values, theirs).min() > 0.99999
    assert cosines(case.run(WORDS)["dense"].values, texts.pooler_output.numpy()).min() > 0.99999
    clips[0][1] = 255 - clips[0][1]
    other = case.run([Video(clip) for clip in clips], "frames")["frames"]
    moved = np.linalg.norm(other.values - ours["frames"].values, axis=1).reshape(len(FILMS), COUNT)
    assert moved[0].min() > 5e-4
    assert moved[1:].max() < 1e-5


def test_a_timesformer_that_sees_frames_one_by_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="one by one"):
        loaded(towers.timesformer(tmp_path, "space_only"))


def test_vectors_of_length_1_and_other_pixels_are_other_spaces(tmp_path: Path) -> None:
    source = towers.vit(tmp_path)
    plain, normalized = loaded(source), loaded(source, normalize=True)
    found = normalized.towers["image"].original(Image(PICTURES[0]))
    np.testing.assert_allclose(np.linalg.norm(found["dense"]), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found["patches"], axis=1), 1, rtol=1e-6)
    transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.4] * 3).save_pretrained(source)
    spaces = [each.spaces["vit"].definition for each in (plain, normalized, loaded(source), loaded(source))]
    assert spaces[2] == spaces[3]
    assert spaces[0] not in spaces[1:]

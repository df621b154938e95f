"""Families that read a text and an image together: towers for each, and one for both, as the library gives them."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow

from embedge import Embedder, RuntimeConfig
from embedge.content import Image
from embedge.request import Request
from embedge_export import sources
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.recipe import Gate, Recipe
from embedge_export.samples.images import images
from embedge_export.sources.originals import picture
from tests.export.models import TEXTS, cosines, tokenizer

COLD = RuntimeConfig(warm_up_seconds=0)
FEW = Gate(items=12, golden=12, known_tokens=0.7)
NAMES = [text for text in TEXTS if len(text) < 60][:5]
# How files are read is another test's: these are of three colours.
PICTURES = [Image(data) for data in images(30) if Pillow.open(io.BytesIO(data)).mode == "RGB" and data[:1] != b"\xff"][
    :5
]
PAIRS = [{"text": text, "image": image} for text, image in zip(NAMES, PICTURES, strict=True)]

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "initializer_range": 0.3,
    "image_size": 32,
    "patch_size": 8,
}
SQUARE = {"size": {"height": 32, "width": 32}}


def words(config: Any) -> dict[str, Any]:
    """Return the settings of a text model that go with a tokenizer."""
    return {**SIZES, "vocab_size": len(config), "max_position_embeddings": 48, "pad_token_id": config.pad_token_id}


def blip(path: Path, kind: str = "BlipForImageTextRetrieval") -> Path:
    """Save a random BLIP with its processor in `path`, and return it."""
    with quiet():
        torch.manual_seed(0)
        reads = tokenizer(model_input_names=["input_ids", "attention_mask"])
        text = {**words(reads), "encoder_hidden_size": 32, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
        config = transformers.BlipConfig(text_config=text, vision_config=SIZES, image_text_hidden_size=24)
        model = getattr(transformers, kind)(config).eval()
        with torch.no_grad():  # its own start is too small for pairs to differ
            for parameter in model.parameters():
                parameter.normal_(0, 0.2) if parameter.ndim > 1 else None
        model.save_pretrained(path)
        processor = transformers.BlipProcessor(transformers.BlipImageProcessor(**SQUARE), reads)
        processor.save_pretrained(path)
    return path


def flava(path: Path) -> Path:
    """Save a random FlavaModel with its processor in `path`, and return it."""
    with quiet():
        torch.manual_seed(0)
        reads = tokenizer()
        parts = {"text_config": words(reads), "image_config": SIZES, "multimodal_config": {**SIZES, "hidden_size": 40}}
        config = transformers.FlavaConfig(**parts, projection_dim=24, hidden_size=32)
        transformers.FlavaModel(config).eval().save_pretrained(path)
        sees = transformers.FlavaImageProcessor(**SQUARE, crop_size=SQUARE["size"])
        transformers.FlavaProcessor(sees, reads).save_pretrained(path)
    return path


def built(make: Callable[[Path], Path], folder: Path) -> Path:
    source = make(folder / "source")
    return build(Recipe(name="m", source=str(source), gate=FEW), folder)[0]


def ask(bundle: Path, tower: str, items: list[Any], *outputs: str) -> Mapping[str, Any]:
    with Embedder.open(bundle, config=COLD) as embedder:
        return embedder.run(Request(items=items, tower=tower, outputs=outputs)).outputs


def theirs(folder: Path, kind: str, **options: Any) -> list[Any]:
    """Return what the library gives for each pair alone."""
    model = getattr(transformers, kind).from_pretrained(folder / "source").eval()
    processor = transformers.AutoProcessor.from_pretrained(folder / "source")
    pictures = [picture(image) for image in PICTURES]
    with torch.no_grad():
        cut: dict[str, Any] = {"truncation": True, "max_length": 48, "return_tensors": "pt"}
        both = zip(NAMES, pictures, strict=True)
        return [model(**processor(text=name, images=one, **cut), **options) for name, one in both]


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(blip, tmp_path_factory.mktemp("blip"))


def test_blip_scores_pairs_as_the_library_does(matcher: Path) -> None:
    found = theirs(matcher.parents[1], "BlipForImageTextRetrieval")
    expected = torch.cat([each.itm_score for each in found]).softmax(dim=-1)[:, 1:].numpy()
    ours = ask(matcher, "match", PAIRS)["scores"].values
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert expected.std() > 0.01  # pairs differ by more than that
    with Embedder.open(matcher, config=COLD) as embedder:
        scores = embedder.score(NAMES[0], PICTURES[:2])
    assert scores[0] == pytest.approx(expected[0, 0], abs=1e-4)


def test_blips_towers_share_a_space_and_give_its_cosines(matcher: Path) -> None:
    found = theirs(matcher.parents[1], "BlipForImageTextRetrieval", use_itm_head=False)
    texts, pictures = (ask(matcher, tower, [pair[tower] for pair in PAIRS])["dense"] for tower in ("text", "image"))
    assert texts.space == pictures.space
    ours = (np.asarray(texts.values) * np.asarray(pictures.values)).sum(axis=1)
    np.testing.assert_allclose(ours, [each.itm_score.item() for each in found], atol=1e-5)


def test_a_blip_of_another_task_is_refused(tmp_path: Path) -> None:
    path = blip(tmp_path, "BlipModel")
    with pytest.raises(ExportError, match="needs weights of BlipForImageTextRetrieval, has those of BlipModel"):
        sources.load(path, Recipe(name="m", source=str(path)), allow_pickle=False)


@pytest.mark.slow
def test_flava_fuses_a_text_and_its_image(tmp_path: Path) -> None:
    bundle = built(flava, tmp_path)
    found = theirs(tmp_path, "FlavaModel")
    ours = ask(bundle, "both", PAIRS)["dense"]
    expected = torch.cat([each.multimodal_embeddings[:, 0] for each in found]).numpy()
    assert cosines(np.asarray(ours.values), expected).min() > 0.99999
    assert cosines(expected[:-1], expected[1:]).max() < 0.999
    texts = ask(bundle, "text", NAMES)["dense"]
    assert texts.space != ours.space
    model = transformers.FlavaModel.from_pretrained(tmp_path / "source")
    with torch.no_grad():
        projected = [model.text_projection(each.text_embeddings[:, 0]).numpy()[0] for each in found]
    assert cosines(np.asarray(texts.values), np.stack(projected)).min() > 0.99999


def sorter(path: Path, kind: str = "ViT") -> Path:
    """Save a random classifier of images with its processor in `path`, and return it."""
    with quiet():
        torch.manual_seed(0)
        names = {0: "cat", 1: "dog", 2: "neither"}
        config = getattr(transformers, f"{kind}Config")(**SIZES, id2label=names)
        getattr(transformers, f"{kind}ForImageClassification")(config).eval().save_pretrained(path)
        transformers.ViTImageProcessor(**SQUARE).save_pretrained(path)
    return path


@pytest.mark.parametrize("kind", ["ViT", pytest.param("Dinov2", marks=pytest.mark.slow)])
def test_a_classifier_gives_scores_beside_its_vectors(kind: str, tmp_path: Path) -> None:
    bundle = built(lambda path: sorter(path, kind), tmp_path)
    outputs = ask(bundle, "image", PICTURES, "dense", "scores")
    model = transformers.AutoModelForImageClassification.from_pretrained(tmp_path / "source").eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "source")
    with torch.no_grad():
        pixels = [processor(images=picture(image), return_tensors="pt")["pixel_values"] for image in PICTURES]
        logits = np.concatenate([model(each).logits.numpy() for each in pixels])
        states = np.concatenate([model.base_model(each).last_hidden_state[:, 0].numpy() for each in pixels])
    assert outputs["scores"].labels == ("cat", "dog", "neither")
    np.testing.assert_allclose(outputs["scores"].values, logits, atol=1e-4)
    assert cosines(np.asarray(outputs["dense"].values), states).min() > 0.99999

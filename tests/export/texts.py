"""Small models of texts with random weights, as sentence-transformers and transformers save them."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedge_export.quiet import quiet
from tests.export.models import encoder, tokenizer
from tests.export.towers import clip

__all__ = ["MODELS", "clip_model", "colbert", "inference_free", "router", "splade", "static", "unigram"]


def splade(path: Path) -> Path:
    """Save a SPLADE (Formal et al., 2021, arXiv:2109.10086) in `path`, and return it."""
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SpladePooling

    return _saved(path, SparseEncoder, lambda: [_scores(path), SpladePooling("max")], max_active_dims=24)


def inference_free(path: Path) -> Path:
    """Save a sparse encoder whose queries are looked up (Shen et al., 2025, arXiv:2504.14839)."""
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import Router, SparseStaticEmbedding, SpladePooling

    def modules() -> list[Any]:
        words = tokenizer()
        query = SparseStaticEmbedding(words, torch.rand(len(words)), frozen=True)
        pooled = SpladePooling("sum", activation_function="log1p_relu")
        return [Router.for_query_document([query], [_scores(path), pooled])]

    return _saved(path, SparseEncoder, modules)


def colbert(path: Path, *, attend: bool = False, strategy: str = "fixed") -> Path:
    """Save a ColBERT (Khattab and Zaharia, 2020, arXiv:2004.12832), its queries filled up with mask tokens."""
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    def modules() -> list[Any]:
        expansion = {"strategy": strategy, "attend": attend, "length": 16}
        base = Transformer(str(encoder(path / "base")), query_expansion=expansion, document_length=40)
        project = Dense(32, 16, bias=False, activation_function=None, module_input_name="token_embeddings")
        mask = MultiVectorMask(skiplist_words=list(string.punctuation))
        return [base, project, mask, Normalize("token_embeddings")]

    return _saved(path, MultiVectorEncoder, modules, prompts={"query": "[Q] ", "document": "[D] "})


def router(path: Path, **settings: Any) -> Path:
    """Save a model with an encoder for queries and another for documents."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Router, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    def modules() -> list[Any]:
        asks = Transformer(str(encoder(path / "query", seed=1)), max_seq_length=20)
        tells = Transformer(str(encoder(path / "document", seed=2)), max_seq_length=40)
        return [Router.for_query_document([asks, Pooling(32, "cls")], [tells, Pooling(32, "mean")]), Normalize()]

    prompts = {"query": "search: ", "document": "text: "}
    return _saved(path, SentenceTransformer, modules, prompts=prompts, **settings)


def static(path: Path) -> Path:
    """Save a model that looks tokens up and averages them."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    return _saved(path, SentenceTransformer, lambda: [StaticEmbedding(tokenizer(), embedding_dim=24), Normalize()])


def clip_model(path: Path) -> Path:
    """Save a CLIP as sentence-transformers has it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import CLIPModel

    return _saved(path, SentenceTransformer, lambda: [CLIPModel.load(str(clip(path / "base")))])


def unigram(**settings: Any) -> Any:
    """Return a tokenizer of XLM-R's kind: a unigram model over letters and some words of several scripts."""
    from transformers import XLMRobertaTokenizer

    words = ["▁the", "▁value", "▁of", "▁list", "▁name", "▁Werte", "▁значение", "▁値", "ing", "ed", "en"]
    letters = sorted({*map(chr, range(33, 127)), *"äöüßéèñ", *map(chr, range(0x430, 0x450)), *"値一覧名前の", "▁"})
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("<mask>", 0.0)]
    pieces += [(word, -2.0 - place / 8) for place, word in enumerate(words)]
    pieces += [(letter, -6.0 - place / 64) for place, letter in enumerate(letters)]
    return XLMRobertaTokenizer(vocab=pieces, **settings)


def _scores(path: Path) -> Any:
    """Return a Transformer module with a head of words."""
    from sentence_transformers.base.modules import Transformer

    return Transformer(str(encoder(path / "base", head="ForMaskedLM")), transformer_task="fill-mask")


def _saved(path: Path, kind: Any, modules: Callable[[], list[Any]], **settings: Any) -> Path:
    import torch

    with quiet():
        torch.manual_seed(0)
        kind(modules=modules(), device="cpu", **settings).save(str(path / "model"))
    return path / "model"


MODELS: dict[str, Callable[[Path], Path]] = {
    "splade": splade,
    "inference_free": inference_free,
    "colbert": colbert,
    "router": router,
    "static": static,
    "clip_model": clip_model,
}

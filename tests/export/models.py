"""Small encoders with random weights, made from configs: real architectures, real tokenizers, nothing trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from embedge_export.quiet import quiet

__all__ = ["TEXTS", "cosines", "encoder", "sentence_transformer", "tokenizer"]

_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?()-_'"
_WORDS = "the of and to in is for a with as on by this that return value list file name error string object".split()

TEXTS = [
    "the value of a list",
    "Return the NAME of this file.",
    "a",
    "error: string is no object!",
    "🚀 emoji only knows unknown tokens",
    "words " * 40,
    *(f"value {number} in the list of file names, with {'many ' * (number % 9)}words" for number in range(24)),
]

_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 48,
    "initializer_range": 0.3,  # wide, so that pooling modes and neighbours would show
    "pad_token_id": 0,
}


def encoder(
    path: Path, kind: str = "Bert", *, seed: int = 0, head: str = "Model", words: Any = None, **settings: Any
) -> Path:
    """Save a random transformers encoder with its tokenizer in `path`, and return it. words: another tokenizer."""
    with quiet():
        import torch
        import transformers

        torch.manual_seed(seed)
        words = words or tokenizer()
        sizes = {**_SIZES, "vocab_size": len(words), "pad_token_id": words.pad_token_id, **settings}
        config = getattr(transformers, f"{kind}Config")(**sizes)
        getattr(transformers, kind + head)(config).eval().save_pretrained(path)
        words.save_pretrained(path)
    return path


def sentence_transformer(path: Path, *heads: Any, seed: int = 0, **settings: Any) -> Path:
    """Save a sentence-transformers model in `path`, and return it. `heads` are functions of the width so far."""
    with quiet():
        import torch
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Transformer

        modules: list[Any] = [Transformer(str(encoder(path / "source", seed=seed)), max_seq_length=40)]
        torch.manual_seed(seed)
        for head in heads:
            width = next(m.get_embedding_dimension() for m in modules[::-1] if hasattr(m, "get_embedding_dimension"))
            modules.append(head(width))
        SentenceTransformer(modules=modules, device="cpu", **settings).save(str(path / "model"))
    return path / "model"


def cosines(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return the cosine of each pair of rows, in float64."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    return (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def tokenizer(**settings: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    pieces = [*_SPECIALS, *_WORDS, *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    # What must not come through into the bundle: the runtime pads and cuts by its own settings.
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=16)
    named = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{**named, "model_max_length": 48, **settings})

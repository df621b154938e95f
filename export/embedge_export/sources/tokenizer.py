"""The tokenizer.json of a bundle: the original's own, without padding or truncation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from embedge_export.errors import ExportError

__all__ = ["NO_LIMIT", "bare", "check", "from_transformers", "has_types", "known_share", "need_vocabulary"]

# transformers writes a huge number for a tokenizer without a length limit.
NO_LIMIT = 1_000_000

_VOCABULARIES = ("tokenizer.json", "tekken.json", "vocab*", "*.model", "*.tiktoken", "*.bpe")


def need_vocabulary(directory: Path) -> None:
    """Raise ExportError if the vocabulary is missing: transformers would make up one of a few tokens."""
    if not any(any(directory.glob(pattern)) for pattern in _VOCABULARIES):
        raise ExportError(
            f"{directory}: has no tokenizer ({', '.join(_VOCABULARIES)}); add the model's tokenizer files"
        )


def check(text: str, where: Path, *, max_length: int, table: int = 0) -> None:
    """Check that a tokenizer fits the model.

    Args:
        text: The tokenizer's JSON.
        where: Its file, for errors.
        max_length: Length limit of a text in tokens.
        table: Rows of the token embeddings; 0 if unknown.

    Raises:
        ExportError: The limit leaves no room for text, or the vocabulary is another model's.
    """
    tokenizer = Tokenizer.from_str(text)
    specials, size = tokenizer.num_special_tokens_to_add(False), tokenizer.get_vocab_size()
    if max_length <= specials:
        raise ExportError(
            f"{where}: max_length {max_length} leaves no room for text: the tokenizer adds {specials} special "
            f"tokens; set max_length to {specials + 1} or more"
        )
    if size * 2 < table:
        raise ExportError(
            f"{where}: the tokenizer has {size:,} tokens, the model {table:,}; use the model's own tokenizer"
        )


def known_share(text: str, passages: Sequence[str]) -> float:
    """Return the share of known tokens in the passages, without special tokens; 0 for no tokens."""
    tokenizer = Tokenizer.from_str(text)
    tokenizer.no_truncation()
    tokens = [
        token for encoding in tokenizer.encode_batch(passages, add_special_tokens=False) for token in encoding.ids
    ]
    unknown = _unknown(tokenizer, json.loads(text)["model"])
    return sum(token != unknown for token in tokens) / len(tokens) if tokens else 0.0


def _unknown(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """Return the id of the unknown token; models on bytes have none."""
    if model.get("unk_token") is not None:
        return tokenizer.token_to_id(model["unk_token"])
    return model.get("unk_id")


def from_transformers(tokenizer: Any, where: Path) -> str:
    """Return the JSON of a transformers tokenizer. Raises ExportError if `tokenizers` cannot run it."""
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(
            f"{where}: the tokenizer is a slow one, written in Python; convert it to a fast one (tokenizer.json) "
            "with transformers' convert_slow_tokenizer"
        )
    if getattr(tokenizer, "truncation_side", "right") != "right":
        raise ExportError(f"{where}: the tokenizer truncates on the left; embedge truncates on the right only")
    return bare(tokenizer.backend_tokenizer.to_str(), where)


def bare(text: str, where: Path, *, specials: bool = True) -> str:
    """Return a tokenizer.json without padding and truncation: the runtime sets its own.

    Without `specials`, it adds no special tokens either. Raises ExportError if the JSON is invalid.
    """
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the tokenizers library raises plain Exception
        raise ExportError(f"{where}: the tokenizer cannot be read: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if not specials:
        tokenizer.post_processor = None
    return str(tokenizer.to_str())


def has_types(text: str, *, pair: bool = False) -> bool:
    """Return whether a single text, or a pair, gets token types other than 0."""
    return any(Tokenizer.from_str(text).encode("a short text", "and another" if pair else None).type_ids)
